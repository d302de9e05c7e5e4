//! The parameters a runtime passes in the environment (CNI SPEC 1.1.0, section 2, "Parameters").

use std::ffi::OsString;
use std::net::{AddrParseError, IpAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::error::{CniError, Code};
use crate::link::{Mac, MacError};
use crate::names::{ContainerId, IfName};

/// Looks up an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Compare with what ADD made.
    Check,
    /// Collect what no longer belongs to anyone.
    Gc,
    /// Say whether ADD would be served.
    Status,
    /// Say which versions are spoken.
    Version,
}

/// Which attachment a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `CNI_CONTAINERID`.
    pub container: ContainerId,
    /// `CNI_IFNAME`.
    pub ifname: IfName,
    /// `CNI_NETNS`; absent or empty is `None`.
    pub netns: Option<PathBuf>,
    /// The pod's name as Kubernetes runtimes pass it in `CNI_ARGS`: `namespace/name`.
    pub pod: Option<String>,
}

impl Command {
    /// Reads `CNI_COMMAND`.
    ///
    /// # Errors
    /// Missing, or none of the verbs.
    pub fn read(env: Env<'_>) -> Result<Self, CniError> {
        match required(env, "CNI_COMMAND")?.as_str() {
            "ADD" => Ok(Self::Add),
            "DEL" => Ok(Self::Del),
            "CHECK" => Ok(Self::Check),
            "GC" => Ok(Self::Gc),
            "STATUS" => Ok(Self::Status),
            "VERSION" => Ok(Self::Version),
            other => Err(CniError::new(
                Code::InvalidEnvironment,
                format!("CNI_COMMAND {other:?} is none of ADD, DEL, CHECK, GC, STATUS, VERSION"),
            )),
        }
    }
}

impl Target {
    /// Reads which attachment is meant. `CNI_NETNS` is not required here: DEL works without.
    ///
    /// # Errors
    /// A variable is missing or malformed; the message names it and its value.
    pub fn read(env: Env<'_>) -> Result<Self, CniError> {
        let container = parsed::<ContainerId>(env, "CNI_CONTAINERID")?;
        let ifname = parsed::<IfName>(env, "CNI_IFNAME")?;
        let netns = env("CNI_NETNS").filter(|path| !path.is_empty()).map(PathBuf::from);
        let pod = text(env, "CNI_ARGS").ok().flatten().and_then(|args| pod_name(&args));
        Ok(Self { container, ifname, netns, pod })
    }

    /// The namespace's path, where the verb cannot do without.
    ///
    /// # Errors
    /// `CNI_NETNS` is missing or empty.
    pub fn required_netns(&self) -> Result<&PathBuf, CniError> {
        self.netns.as_ref().ok_or_else(|| missing("CNI_NETNS"))
    }
}

/// What a runtime asks for in `CNI_ARGS` (CONVENTIONS, "CNI_ARGS").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// `IP=`: one address, or several separated by commas.
    pub ips: Vec<IpAddr>,
    /// `MAC=`.
    pub mac: Option<Mac>,
}

impl Asked {
    /// Reads `CNI_ARGS`, for ADD.
    ///
    /// # Errors
    /// A value is malformed; the message names the key and it.
    pub fn read(env: Env<'_>) -> Result<Self, CniError> {
        let args = text(env, "CNI_ARGS")?.unwrap_or_default();
        let mut asked = Self::default();
        for (key, value) in args.split(';').filter_map(|pair| pair.split_once('=')) {
            let bad = |why: String| {
                CniError::new(Code::InvalidEnvironment, format!("CNI_ARGS {key}={value}: {why}"))
            };
            match key {
                "IP" => {
                    for ip in value.split(',').filter(|ip| !ip.is_empty()) {
                        let bare = ip.split('/').next().unwrap_or(ip);
                        asked.ips.push(bare.parse().map_err(|e: AddrParseError| bad(e.to_string()))?);
                    }
                }
                "MAC" if !value.is_empty() => {
                    let mac: Mac = value.parse().map_err(|e: MacError| bad(e.to_string()))?;
                    asked.mac = Some(mac.of_interface().map_err(|e| bad(e.to_string()))?);
                }
                _ => {}
            }
        }
        Ok(asked)
    }
}

/// `K8S_POD_NAMESPACE` and `K8S_POD_NAME` among the `KEY=VALUE;KEY=VALUE` of `CNI_ARGS`. Whatever else is
/// there belongs to somebody else.
fn pod_name(args: &str) -> Option<String> {
    let value = |key: &str| {
        args.split(';')
            .filter_map(|pair| pair.split_once('='))
            .find(|(k, _)| *k == key)
            .map(|(_, v)| v)
            .filter(|v| !v.is_empty() && v.len() <= 253 && !v.contains(char::is_control))
    };
    let name = value("K8S_POD_NAME")?;
    Some(match value("K8S_POD_NAMESPACE") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    })
}

fn text(env: Env<'_>, name: &str) -> Result<Option<String>, CniError> {
    env(name)
        .filter(|value| !value.is_empty())
        .map(|value| {
            value.into_string().map_err(|raw| {
                CniError::new(Code::InvalidEnvironment, format!("{name} {raw:?} is not UTF-8"))
            })
        })
        .transpose()
}

fn missing(name: &str) -> CniError {
    CniError::new(Code::InvalidEnvironment, format!("{name} is not set"))
        .with("a CNI plugin is called by a container runtime; run flatnet --help for use by hand")
}

fn required(env: Env<'_>, name: &str) -> Result<String, CniError> {
    text(env, name)?.ok_or_else(|| missing(name))
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(env: Env<'_>, name: &str) -> Result<T, CniError> {
    required(env, name)?
        .parse()
        .map_err(|e: T::Err| CniError::new(Code::InvalidEnvironment, format!("{name}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn read(vars: &[(&str, &str)]) -> Result<Target, CniError> {
        Target::read(&|name| vars.iter().find(|(k, _)| *k == name).map(|(_, v)| OsString::from(v)))
    }

    #[test]
    fn each_missing_or_bad_variable_is_named_with_code_4() {
        let good = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/proc/1/ns/net")];
        assert!(read(&good).is_ok());
        for (name, bad) in [
            ("CNI_CONTAINERID", ""),
            ("CNI_CONTAINERID", "../c1"),
            ("CNI_CONTAINERID", "a/b"),
            ("CNI_IFNAME", ""),
            ("CNI_IFNAME", "a b"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "0123456789abcdef"),
        ] {
            let vars = good.map(|(k, v)| if k == name { (k, bad) } else { (k, v) });
            let e = read(&vars).unwrap_err();
            assert_eq!(e.code, Code::InvalidEnvironment, "{name}={bad:?}");
            assert!(e.msg.contains(name) && e.msg.contains(bad), "{}", e.msg);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error_and_never_a_panic() {
        let env = |name: &str| (name == "CNI_CONTAINERID").then(|| OsString::from_vec(vec![0xff, b'a']));
        assert_eq!(Target::read(&env).unwrap_err().code, Code::InvalidEnvironment);
    }

    #[test]
    fn k21_addresses_and_macs_asked_for_in_the_environment() {
        let asked = |args: &str| Asked::read(&|name| (name == "CNI_ARGS").then(|| OsString::from(args)));
        let both = asked("IgnoreUnknown=1;IP=10.22.0.9/24,fd00::9;MAC=02:00:00:00:00:09;X=y").unwrap();
        assert_eq!((both.ips.len(), both.mac.unwrap().to_string()), (2, "02:00:00:00:00:09".to_owned()));
        assert_eq!(asked("").unwrap(), Asked::default());
        assert_eq!(asked("IP=;MAC=;nonsense").unwrap(), Asked::default());
        for bad in ["IP=10.22.0.900", "IP=x", "MAC=zz", "MAC=01:00:5e:00:00:01", "MAC=00:00:00:00:00:00"] {
            let e = asked(bad).unwrap_err();
            assert!(e.code == Code::InvalidEnvironment && e.msg.contains(bad), "{bad}: {}", e.msg);
        }
    }

    #[test]
    fn the_pod_is_found_among_a_runtimes_arguments() {
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=u";
        assert_eq!(pod_name(args).as_deref(), Some("default/web"));
        assert_eq!(pod_name("IgnoreUnknown=1;K8S_POD_NAME=web").as_deref(), Some("web"));
        assert_eq!(pod_name(";;=;K8S_POD_NAME=").as_deref(), None);
    }
}

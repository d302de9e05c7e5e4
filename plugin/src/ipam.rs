//! Third-party IPAM: addresses from the plugin that `ipam.type` names, in place of the built-in pool.

use std::ffi::OsStr;

use flatnet_core::cni::conf::Base;
use flatnet_core::cni::env::Env;
use flatnet_core::cni::error::{CniError, Code};
use flatnet_core::cni::ipam::{self, Given};
use flatnet_core::node::Attachment;
use serde_json::Value;

use crate::delegate;

/// The IPAM plugin of one request.
pub(crate) struct Ipam<'a> {
    kind: String,
    env: Env<'a>,
    conf: Vec<u8>,
}

impl<'a> Ipam<'a> {
    /// The one the configuration names; `None`: the built-in pool.
    ///
    /// # Errors
    /// `ipam` is malformed, or names one that cannot work here.
    pub(crate) fn of(base: &Base, env: Env<'a>) -> Result<Option<Self>, CniError> {
        let Some(kind) = base.ipam()? else { return Ok(None) };
        Ok(Some(Self { kind: kind.to_owned(), env, conf: base.to_bytes() }))
    }

    /// The one to give addresses back to: the configuration's, else the one ADD recorded.
    pub(crate) fn to_release(base: &Base, recorded: Option<&Value>, env: Env<'a>) -> Option<Self> {
        // A configuration that ADD would refuse must not keep DEL from cleaning up what is ours.
        if let Ok(Some(ipam)) = Self::of(base, env) {
            return Some(ipam);
        }
        let base = base.with_ipam(recorded?);
        Self::of(&base, env).ok().flatten()
    }

    /// Asks for addresses, with the complete configuration and our own parameters (SPEC, section 4).
    pub(crate) fn add(&self) -> Result<Given, CniError> {
        let answer = self.call("ADD", &[])?.unwrap_or_default();
        ipam::read(&self.kind, &answer)
    }

    /// Forwards the verb that we were called with, or DEL to take an ADD back.
    pub(crate) fn forward(&self, verb: &str) -> Result<(), CniError> {
        self.call(verb, &[]).map(drop)
    }

    /// DEL on behalf of an attachment that is not the one we were called for.
    pub(crate) fn release(&self, record: &Attachment) -> Result<(), CniError> {
        let target = [
            ("CNI_CONTAINERID", OsStr::new(record.container.as_str())),
            ("CNI_IFNAME", OsStr::new(record.ifname.as_str())),
            ("CNI_NETNS", OsStr::new(&record.netns)),
        ];
        self.call("DEL", &target).map(drop)
    }

    /// STATUS: a delegate that is not there cannot serve an ADD either.
    pub(crate) fn status(&self) -> Result<(), CniError> {
        self.forward("STATUS").map_err(|e| match e.code {
            Code::Delegate => CniError { code: Code::NotAvailable, ..e },
            _ => e,
        })
    }

    fn call(&self, verb: &str, target: &[(&str, &OsStr)]) -> Result<Option<Value>, CniError> {
        let program = delegate::find(&self.kind, self.env)?;
        let mut instead = vec![("CNI_COMMAND", OsStr::new(verb))];
        instead.extend_from_slice(target);
        delegate::call(&program, self.env, &instead, &self.conf)
    }
}

//! An authority, etcd's certificate and that of its clients, made by openssl.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files in PEM.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority.
    pub ca: PathBuf,
    /// etcd's certificate, for its address.
    pub server: PathBuf,
    /// The key to that.
    pub server_key: PathBuf,
    /// The clients' certificate.
    pub client: PathBuf,
    /// The key to that.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes them in `dir`, for an etcd at `ip`.
    ///
    /// # Panics
    /// openssl fails.
    #[must_use]
    pub fn make(dir: &Path, ip: IpAddr) -> Self {
        let run = |line: String| {
            #[expect(clippy::disallowed_methods, reason = "openssl makes certificates")]
            let output = Command::new("openssl").args(line.split_whitespace()).current_dir(dir).output();
            let output = output.expect("run openssl");
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let names = format!("subjectAltName=IP:{ip},IP:127.0.0.1\n");
        std::fs::write(dir.join("names"), names).expect("write a file");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        run(format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"));
        for name in ["server", "client"] {
            run(format!("req {key} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
            run(format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile names -out {name}.pem"
            ));
        }
        let file = |name: &str| dir.join(name);
        Self {
            ca: file("ca.pem"),
            server: file("server.pem"),
            server_key: file("server.key"),
            client: file("client.pem"),
            client_key: file("client.key"),
        }
    }
}

//! A server of files.

use std::{
    fs::File,
    io::{self, Read as _},
    net::{Ipv6Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
};

use anyhow::{Context, Result};
use clap::Args;
use rustix::fs::{OFlags, ResolveFlags};

use super::{http, netexec::end_when_asked, small::say};
use crate::image::look_up;

/// What is shown of a directory.
const INDEX: &str = "index.html";

/// What to serve, and where.
#[derive(Debug, Args)]
pub(super) struct WebserverArgs {
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// The directory whose files are served
    #[arg(long, default_value = "/")]
    dir: PathBuf,
}

pub(super) fn run(args: &WebserverArgs) -> Result<ExitCode> {
    let dir = File::open(&args.dir).with_context(|| format!("open {}", args.dir.display()))?;
    let dir = Arc::new(dir);
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, args.port))
        .with_context(|| format!("serve on port {}", args.port))?;
    end_when_asked()?;
    say(&format!("serving {} on {}", args.dir.display(), args.port))?;
    for stream in listener.incoming().flatten() {
        let dir = Arc::clone(&dir);
        thread::spawn(move || {
            // A client that goes away is no reason to end.
            let _ = serve(&stream, &dir);
        });
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(stream: &TcpStream, dir: &File) -> io::Result<()> {
    let asked = http::asked(stream)?;
    let path = asked.split('?').next().unwrap_or_default();
    match read(dir, path) {
        Ok(body) => http::answer(stream, "200 OK", &body),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            http::answer(stream, "404 Not Found", b"404 page not found\n")
        }
        Err(_) => http::answer(stream, "403 Forbidden", b"403 forbidden\n"),
    }
}

/// The bytes of a file below the directory. Neither `..` nor a link leads out of it: the kernel sees to that.
fn read(dir: &File, path: &str) -> io::Result<Vec<u8>> {
    let path = Path::new(path.trim_start_matches('/'));
    // A pipe would keep us waiting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let open = |path: &Path| {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        look_up(dir, path, flags, how).map(File::from)
    };
    let mut file = open(path)?;
    if file.metadata()?.is_dir() {
        file = open(&path.join(INDEX))?;
    }
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut bytes = vec![];
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::unix::fs::symlink,
    };

    use super::read;

    #[test]
    fn files_are_served_and_nothing_leads_out() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("dir");
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(temp.path().join("secret"), "secret").unwrap();
        fs::write(dir.join("index.html"), "page").unwrap();
        fs::write(dir.join("sub/file"), "file").unwrap();
        symlink("sub/file", dir.join("in")).unwrap();
        symlink("../secret", dir.join("out")).unwrap();
        symlink(temp.path().join("secret"), dir.join("absolute")).unwrap();
        let dir = File::open(&dir).unwrap();
        for (path, bytes) in [("/", "page"), ("//index.html", "page"), ("/sub/file", "file"), ("/in", "file")]
        {
            assert_eq!(read(&dir, path).unwrap(), bytes.as_bytes(), "{path}");
        }
        for path in ["/../secret", "/sub/../../secret", "/out", "/absolute", "/sub", "/none", "/sub/file/x"] {
            assert!(read(&dir, path).is_err(), "{path}");
        }
    }
}

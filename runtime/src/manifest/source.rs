//! Where manifests come from: files, directories, standard input.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The text of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file as the user named it, or `stdin`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Larger than any manifest: an API server refuses objects over 3 MiB.
const MAX_BYTES: u64 = 16 << 20;
const SUFFIXES: [&str; 3] = ["yaml", "yml", "json"];

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("read {name}")]
    Unreadable {
        /// The file.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A directory has no manifests.
    #[error("{0}: no file in this directory ends in .yaml, .yml or .json")]
    NothingThere(String),
    /// The file is too large.
    #[error("{0}: larger than {MAX_BYTES} bytes, which is no manifest")]
    TooLarge(String),
    /// An address of the web.
    #[error("{0}: flatpod does not fetch manifests; download it and name the file, or pipe it to -f -")]
    Url(String),
    /// Standard input twice.
    #[error("-f - is given twice, but standard input can be read once")]
    StdinTwice,
}

/// Reads what the user named: files, directories (sorted by name, not those below) and `-`.
///
/// # Errors
///
/// Names the first thing that cannot be read.
pub fn read(names: &[PathBuf], stdin: &mut dyn Read) -> Result<Vec<Source>, SourceError> {
    let mut sources = Vec::new();
    if names.iter().filter(|name| name.as_os_str() == "-").count() > 1 {
        return Err(SourceError::StdinTwice);
    }
    for path in names {
        let name = path.display().to_string();
        if name == "-" {
            let text = text_of(stdin, "stdin")?;
            sources.push(Source { name: "stdin".to_owned(), text });
        } else if name.starts_with("http://") || name.starts_with("https://") {
            return Err(SourceError::Url(name));
        } else if path.is_dir() {
            for file in
                manifests_in(path).map_err(|source| SourceError::Unreadable { name: name.clone(), source })?
            {
                sources.push(from_file(&file)?);
            }
            if sources.is_empty() {
                return Err(SourceError::NothingThere(name));
            }
        } else {
            sources.push(from_file(path)?);
        }
    }
    Ok(sources)
}

fn from_file(path: &Path) -> Result<Source, SourceError> {
    let name = path.display().to_string();
    let mut file =
        fs::File::open(path).map_err(|source| SourceError::Unreadable { name: name.clone(), source })?;
    Ok(Source { text: text_of(&mut file, &name)?, name })
}

fn text_of(reader: &mut dyn Read, name: &str) -> Result<String, SourceError> {
    let mut text = String::new();
    let read = reader
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|source| SourceError::Unreadable { name: name.to_owned(), source })?;
    if u64::try_from(read).is_ok_and(|bytes| bytes > MAX_BYTES) {
        return Err(SourceError::TooLarge(name.to_owned()));
    }
    Ok(text)
}

/// The manifests of a directory, sorted, as `kubectl apply -f DIR` takes them.
fn manifests_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let named = path
            .extension()
            .and_then(|suffix| suffix.to_str())
            .is_some_and(|suffix| SUFFIXES.contains(&suffix));
        if named && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_manifests_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yaml", "c.json", "d.txt"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        fs::create_dir(dir.path().join("e.yaml")).unwrap();
        let read = read(&[dir.path().to_owned(), PathBuf::from("-")], &mut "input".as_bytes()).unwrap();
        let texts: Vec<&str> = read.iter().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["a.yaml", "b.yml", "c.json", "input"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = |name: &Path| read(&[name.to_owned()], &mut io::empty()).unwrap_err().to_string();
        assert!(error(dir.path()).contains("no file in this directory"));
        assert!(error(&dir.path().join("none.yaml")).contains("none.yaml"));
        assert!(error(Path::new("https://example.org/pod.yaml")).contains("does not fetch"));
        let twice = read(&["-".into(), "-".into()], &mut io::empty()).unwrap_err();
        assert!(matches!(twice, SourceError::StdinTwice));
    }
}

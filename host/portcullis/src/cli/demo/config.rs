//! The demo's configuration: a folder as anybody would write it, and the edits that are made to it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A folder of documents.
pub struct Config {
    folder: PathBuf,
}

const DOCUMENTS: [(&str, &str); 6] = [
    ("proxy.yaml", include_str!("conf/proxy.yaml")),
    ("backends.yaml", include_str!("conf/backends.yaml")),
    ("routes.yaml", include_str!("conf/routes.yaml")),
    ("authz.yaml", include_str!("conf/authz.yaml")),
    ("canary.yaml", include_str!("conf/canary.yaml")),
    ("fault.yaml", include_str!("conf/fault.yaml")),
];

impl Config {
    /// Writes the documents beside the modules that are in `folder` already.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write(folder: &Path, v1: SocketAddr, v2: SocketAddr) -> io::Result<Config> {
        let config = Config { folder: folder.to_owned() };
        for (name, text) in DOCUMENTS {
            let text = text.replace("ADDRESS_V1", &v1.to_string());
            config.replace(name, &text.replace("ADDRESS_V2", &v2.to_string()))?;
        }
        Ok(config)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Changes the share of users that the canary gets, as an editor would: one field in one file.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn set_percent(&self, percent: u32) -> io::Result<()> {
        let text = fs::read_to_string(self.folder.join("canary.yaml"))?;
        let line = |line: &str| match line.split_once("percent: ") {
            Some((before, _)) => format!("{before}percent: {percent}\n"),
            None => format!("{line}\n"),
        };
        self.replace("canary.yaml", &text.lines().map(line).collect::<String>())
    }

    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let written = self.folder.join(format!(".{name}.new"));
        fs::write(&written, text)?;
        fs::rename(written, self.folder.join(name))
    }
}

//! All sources of a process, read together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::{Change, Files, Kubernetes, KubernetesSettings, Object, ReadError, View};
use crate::cluster::Failure;
use crate::diagnose::{Code, Problem};
use crate::fetch::ConfigMaps;

/// Files and folders, and a cluster's ConfigMaps where there is a cluster.
pub struct Sources {
    files: Files,
    kubernetes: Option<Kubernetes>,
}

/// Everything there is at one moment.
#[derive(Default)]
pub struct Reading {
    /// Those of files first.
    pub objects: Vec<Object>,
    /// Places of which nobody knows what is in them.
    pub lost: Vec<Lost>,
    /// What `configmap://` leads to.
    pub config_maps: ConfigMaps,
}

/// A folder or a namespace that cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// As a path; the objects in it have names below it.
    pub place: String,
    /// Why.
    pub problem: Problem,
}

impl Lost {
    /// Whether the object of this name would be there.
    pub fn holds(&self, name: &str) -> bool {
        Path::new(name).parent() == Some(Path::new(&self.place))
    }
}

/// What became of a version of a source object.
#[derive(Clone, Debug)]
pub struct Fate {
    /// The object's name.
    pub name: Arc<str>,
    /// Names of keys of ConfigMaps that it refers to.
    pub refers_to: Vec<PathBuf>,
    /// Why it is refused; `None`: it is live.
    pub refused: Option<Problem>,
}

impl Sources {
    /// Follows a cluster as well; `door` is knocked at when something has changed there.
    ///
    /// # Errors
    /// Nobody says where the cluster is.
    pub fn connect(
        &mut self,
        settings: KubernetesSettings,
        door: Sender<Change>,
    ) -> Result<Arc<View>, Failure> {
        let kubernetes = Kubernetes::start(settings, door)?;
        let view = kubernetes.view();
        self.kubernetes = Some(kubernetes);
        Ok(view)
    }

    /// Reads everything. The first time it waits for the API server's first answer, or for it to fail.
    pub fn read(&mut self) -> Reading {
        let (objects, errors) = self.files.read();
        let lost = errors.into_iter().map(Lost::from).collect();
        let mut reading = Reading { objects, lost, ..Reading::default() };
        if let Some(kubernetes) = &mut self.kubernetes {
            kubernetes.read(&mut reading);
        }
        reading
    }

    /// The folders in which a change can change the objects. A cluster's changes are told without being asked for.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.files.folders()
    }

    /// Everything that was read last has been judged.
    pub fn judged(&self) {
        if let Some(kubernetes) = &self.kubernetes {
            kubernetes.judged();
        }
    }

    /// Shows what became of changes where they were made.
    pub fn tell(&self, fates: Vec<Fate>) {
        if let Some(kubernetes) = &self.kubernetes {
            kubernetes.tell(fates);
        }
    }
}

impl From<Files> for Sources {
    fn from(files: Files) -> Sources {
        Sources { files, kubernetes: None }
    }
}

impl From<ReadError> for Lost {
    fn from(error: ReadError) -> Lost {
        let problem = Problem::new(Code::P0401, format!("cannot read {}", error.path));
        Lost { place: error.path, problem: problem.because(error.problem) }
    }
}

//! The admin and health servers, where the documents want them; before there are documents, where the command line wants
//! them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::admin::{Admin, Report};
use crate::control::Board;

/// Servers that can move once.
pub(super) struct Servers {
    /// Admin and health, where no document names them.
    otherwise: (Option<SocketAddr>, Option<SocketAddr>),
    report: Arc<dyn Report>,
    open: Mutex<Option<Admin>>,
}

impl Servers {
    /// None is open yet.
    pub(super) fn new(
        otherwise: (Option<SocketAddr>, Option<SocketAddr>),
        report: Arc<dyn Report>,
    ) -> Servers {
        Servers { otherwise, report, open: Mutex::default() }
    }

    /// Opens them where they belong by now. What is open is closed first: it may be there.
    pub(super) fn open(&self, board: &Board) -> io::Result<()> {
        let (admin, health) = board.process().map_or((None, None), |one| (one.admin, one.health));
        let (admin, health) = (admin.or(self.otherwise.0), health.or(self.otherwise.1));
        let mut open = self.lock();
        drop(open.take());
        *open = Some(Admin::start(admin, health, self.report.clone())?);
        Ok(())
    }

    pub(super) fn admin(&self) -> Option<SocketAddr> {
        self.lock().as_ref().and_then(|open| open.admin)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Admin>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

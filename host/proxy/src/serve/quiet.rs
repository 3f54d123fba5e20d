//! Something that is driven with every packet, and beside it something that hardly ever has anything to say: a timer, a
//! notification. The latter is polled only when it has asked to be.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::now;

/// Which of the two was ready first.
pub enum First<A, B> {
    Driven(A),
    Quiet(B),
}

/// Drives both; in doubt the driven one is first. Neither is polled again after it was ready.
pub async fn beside<A, B>(
    driven: &mut (impl Future<Output = A> + Unpin),
    mut quiet: Pin<&mut impl Future<Output = B>>,
) -> First<A, B> {
    let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(None) });
    let waker = Waker::from(bell.clone());
    let mut task: Option<Waker> = None;
    poll_fn(|context| {
        if let Poll::Ready(output) = now::hold(|| Pin::new(&mut *driven).poll(context)) {
            return Poll::Ready(First::Driven(output));
        }
        // A task keeps its waker as a rule, so that this comes to a comparison.
        if !task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            task = Some(context.waker().clone());
            *bell.task.lock().unwrap_or_else(PoisonError::into_inner) = task.clone();
        }
        if !bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        bell.rung.store(false, Ordering::Release);
        quiet.as_mut().poll(&mut Context::from_waker(&waker)).map(First::Quiet)
    })
    .await
}

/// Notes who asks to be polled, and wakes the task.
struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

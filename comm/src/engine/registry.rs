//! Who looks after engines while nobody waits for them: at most one thread, which comes when it is
//! needed and leaves when it is not.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::bell::Bell;
use super::completion::Gate;
use super::primitive::{AtomicBool, Mutex, MutexGuard};

/// What the thread looks after.
pub(super) trait Client {
    /// Tells whether there is anything to do.
    fn gate(&self) -> &Gate;
    /// The thread knows of this client, or will.
    fn registered(&self) -> &AtomicBool;
}

/// What the thread and its clients share.
pub(super) struct Registry<C> {
    inbox: Mutex<Inbox<C>>,
    /// Something is in the inbox.
    news: AtomicBool,
    pub(super) bell: Bell,
}

struct Inbox<C> {
    clients: Vec<Arc<C>>,
    /// The thread is there, and will look here again.
    running: bool,
}

impl<C: Client> Registry<C> {
    #[cfg(not(all(test, syncline_loom)))]
    pub(super) const fn new() -> Self {
        let inbox = Mutex::new(Inbox { clients: Vec::new(), running: false });
        Self { inbox, news: AtomicBool::new(false), bell: Bell::new() }
    }

    /// Loom's cannot be made in constants.
    #[cfg(all(test, syncline_loom))]
    pub(super) fn new() -> Self {
        let inbox = Mutex::new(Inbox { clients: Vec::new(), running: false });
        Self { inbox, news: AtomicBool::new(false), bell: Bell::new() }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox<C>> {
        // Held for a push or a swap, and while the thread is started.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread look after `client`; `start`s it if there is none.
    pub(super) fn register(
        &self,
        client: &Arc<C>,
        start: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        // Before there is a thread that could fall asleep without it.
        self.bell.prepare();
        if !client.registered().swap(true, Ordering::SeqCst) {
            let mut inbox = self.inbox();
            inbox.clients.push(Arc::clone(client));
            self.news.store(true, Ordering::SeqCst);
            if !inbox.running {
                if let Err(error) = start() {
                    inbox.clients.pop();
                    client.registered().store(false, Ordering::SeqCst);
                    return Err(error);
                }
                inbox.running = true;
            }
        }
        self.bell.ring();
        Ok(())
    }

    /// Sees to it that the thread is there, and stays for a while: [`Self::register`] will not
    /// have to start it.
    pub(super) fn prepare(&self, start: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.bell.prepare();
        let mut inbox = self.inbox();
        if !inbox.running {
            start()?;
            inbox.running = true;
        }
        Ok(())
    }

    /// Whether there are clients to collect.
    pub(super) fn has_news(&self) -> bool {
        self.news.load(Ordering::SeqCst)
    }

    /// Adds the new clients to those the thread has.
    pub(super) fn collect(&self, clients: &mut Vec<Arc<C>>) {
        let mut inbox = self.inbox();
        self.news.store(false, Ordering::SeqCst);
        clients.append(&mut inbox.clients);
    }

    /// Whether the thread, which has no clients, may end; if not, there are new ones.
    pub(super) fn leave(&self) -> bool {
        let mut inbox = self.inbox();
        inbox.running = !inbox.clients.is_empty();
        !inbox.running
    }
}

/// Forgets the clients that have nothing to do.
pub(super) fn drop_finished<C: Client>(clients: &mut Vec<Arc<C>>) {
    clients.retain(|client| {
        if client.gate().is_pending() {
            return true;
        }
        // A swap, so that whoever found the client registered before is seen to have started
        // something.
        client.registered().swap(false, Ordering::SeqCst);
        client.gate().is_pending() && !client.registered().swap(true, Ordering::SeqCst)
    });
}

//! The connections of a local server: the newest few, so that idle ones keep nobody out.

use std::{collections::VecDeque, io, time::Duration};

use tokio::{task::AbortHandle, time::sleep};

/// Between two accepts while places are short: a newcomer keeps its place for as many of these as there are places.
const PACE: Duration = Duration::from_millis(1);

/// After an accept that failed: what is short then (descriptors, memory) does not come back at once.
const PAUSE: Duration = Duration::from_millis(100);

/// What a server has under way.
#[derive(Debug)]
pub(crate) struct Connections {
    places: usize,
    live: VecDeque<AbortHandle>,
}

impl Connections {
    /// Room for this many.
    pub(crate) const fn new(places: usize) -> Self {
        Self { places, live: VecDeque::new() }
    }

    /// Serves one more; where no place is free, the oldest is cut off for it.
    pub(crate) async fn serve(&mut self, conversation: impl Future<Output = ()> + Send + 'static) {
        self.live.retain(|connection| !connection.is_finished());
        let crowded = self.live.len() >= self.places;
        if crowded && let Some(oldest) = self.live.pop_front() {
            oldest.abort();
        }
        self.live.push_back(tokio::spawn(conversation).abort_handle());
        if crowded {
            sleep(PACE).await;
        }
    }
}

/// Says why an accept failed, and waits a moment: the server goes on.
pub(crate) async fn accept_failed(server: &str, error: &io::Error) {
    tracing::warn!("{server}: no connection can be taken: {error}");
    sleep(PAUSE).await;
}

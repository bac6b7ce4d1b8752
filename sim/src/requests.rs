//! The requests under way. Places are used again, so that a run allocates little.

use spillway_core::server::Request as Classified;
use spillway_core::totals::epoch::News;

/// A request, from its caller's application until its answer.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// Counts the uses of this place.
    pub(crate) generation: u32,
    pub(crate) thread: usize,
    pub(crate) began: u64,
    /// How often the application made it before.
    pub(crate) repeats: u32,
    /// The application no longer waits.
    pub(crate) abandoned: bool,
    /// Where the caller sent it, in its ladder.
    pub(crate) place: usize,
    pub(crate) bounceable: bool,
    /// The header, as bytes; empty without a filter.
    pub(crate) hop: Vec<u8>,
    pub(crate) attempts: u32,
    /// The endpoints that it was at.
    pub(crate) tried: Vec<u32>,
    pub(crate) bounced: bool,
    /// The endpoint's thread.
    pub(crate) worker: usize,
    pub(crate) classified: Option<Classified>,
    /// Where callers share a switch: what the answer tells of it.
    pub(crate) news: Option<News>,
    /// What comes back.
    pub(crate) outcome: Outcome,
    /// The load header of the answer, as bytes; empty without one.
    pub(crate) load: Vec<u8>,
}

/// What comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The application's answer.
    #[default]
    Served,
    /// The gate's: repeat it elsewhere.
    Bounced,
    /// The gate's: nobody has room.
    Shed,
    /// No connection.
    Refused,
    /// The application's 5xx, or none.
    Failed,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    all: Vec<Request>,
    free: Vec<u32>,
}

impl Requests {
    /// A place for a new one, in which all is as new but the buffers.
    pub(crate) fn begin(&mut self) -> u32 {
        if let Some(at) = self.free.pop() {
            return at;
        }
        self.all.push(Request::default());
        u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
    }

    /// One that has ended gives its place back.
    pub(crate) fn end(&mut self, at: u32) {
        if let Some(request) = self.get_mut(at) {
            let mut buffers = core::mem::take(request);
            buffers.hop.clear();
            buffers.load.clear();
            buffers.tried.clear();
            *request = Request {
                generation: buffers.generation.wrapping_add(1),
                hop: buffers.hop,
                load: buffers.load,
                tried: buffers.tried,
                ..Request::default()
            };
            self.free.push(at);
        }
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Request> {
        self.all.get(at as usize)
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut Request> {
        self.all.get_mut(at as usize)
    }
}

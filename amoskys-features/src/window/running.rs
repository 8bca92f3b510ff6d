//! A window that slides over the panes of an entity.

use amoskys_core::Seq;

use super::many::Pane;
use crate::aggregate::{Aggregate, Sliding, Stacked};

/// The window of the panes that have closed and not gone, as it is.
pub(super) struct Running<A: Aggregate> {
    spans: Stacked<Span>,
    window: A::Sliding,
}

/// The first and the last event.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Span(pub(super) Seq, pub(super) Seq);

impl Default for Span {
    fn default() -> Self {
        Self(Seq(u64::MAX), Seq(0))
    }
}

impl Aggregate for Span {
    type Sliding = Stacked<Self>;

    fn merge(&mut self, later: &Self) {
        *self = Self(self.0.min(later.0), self.1.max(later.1));
    }
}

impl<A: Aggregate> Default for Running<A> {
    fn default() -> Self {
        Self {
            spans: Stacked::default(),
            window: A::Sliding::default(),
        }
    }
}

impl<A: Aggregate> Running<A> {
    /// Takes in the pane that follows. If it cannot, it is of no use any more.
    pub(super) fn enter(&mut self, pane: &Pane<A>) -> bool {
        self.spans.enter(&pane.span) && self.window.enter(&pane.aggregate)
    }

    /// Takes out the oldest pane. If it cannot, it is of no use any more.
    pub(super) fn leave(&mut self, pane: &Pane<A>) -> bool {
        self.spans.leave(&pane.span) && self.window.leave(&pane.aggregate)
    }

    /// As [`enter`](Self::enter) of a pane that is packed.
    pub(super) fn enter_packed(&mut self, span: Span, mut aggregate: &[u8], room: &mut A) -> bool {
        self.spans.enter(&span) && self.window.enter_packed(&mut aggregate, room)
    }

    /// As [`leave`](Self::leave) of a pane that is packed.
    pub(super) fn leave_packed(&mut self, mut aggregate: &[u8], room: &mut A) -> bool {
        self.spans.leave(&Span::default()) && self.window.leave_packed(&mut aggregate, room)
    }

    /// Prepares for the leaving of all panes that it holds.
    pub(super) fn turn(&mut self) {
        self.spans.turn();
        self.window.turn();
    }

    /// Makes the window in `room`, and says its first and last event; `None` if nothing entered.
    pub(super) fn window(&self, room: &mut A) -> Option<Span> {
        let mut span = Span::default();
        self.spans.window(&mut span);
        (span.0 <= span.1).then(|| self.window.window(room))?;
        Some(span)
    }

    /// Forgets all panes.
    pub(super) fn reset(&mut self) {
        self.spans.reset();
        self.window.reset();
    }

    /// Asks for the memory that entering and leaving will need beside this itself.
    pub(super) fn prefetch(&self) {
        self.window.prefetch();
        self.spans.prefetch();
    }
}

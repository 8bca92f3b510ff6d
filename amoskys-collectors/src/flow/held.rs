use crate::capture::Packet;

/// Room for one packet that has to wait for the next one.
#[derive(Default)]
pub(super) struct Held {
    head: Option<Packet<'static>>,
    data: Vec<u8>,
}

impl Held {
    #[inline]
    pub(super) fn is_some(&self) -> bool {
        self.head.is_some()
    }

    pub(super) fn put(&mut self, packet: &Packet<'_>) {
        self.data.clear();
        self.data.extend_from_slice(packet.data);
        self.head = Some(Packet { data: &[], ..*packet });
    }

    /// Takes the packet out, with the buffer.
    pub(super) fn take(&mut self) -> Option<Self> {
        let head = self.head.take()?;
        Some(Self {
            head: Some(head),
            data: std::mem::take(&mut self.data),
        })
    }

    pub(super) fn packet(&self) -> Packet<'_> {
        let head = self.head.unwrap_or_default();
        Packet {
            data: &self.data,
            ..head
        }
    }

    /// Returns the buffer, so that it is used again.
    pub(super) fn give_back(&mut self, taken: &mut Self) {
        self.data = std::mem::take(&mut taken.data);
    }
}

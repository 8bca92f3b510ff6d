use std::io;
use std::net::{ToSocketAddrs, UdpSocket};

use amoskys_core::event::{FlowPhase, Payload};
use amoskys_core::{Recorded, Sink, Timestamp};

use super::{IpfixConfig, IpfixEncoder};

/// Why flows could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpfixError {
    /// There is no way to the collector's address.
    #[error("could not open a socket to the IPFIX collector")]
    Open(#[source] io::Error),
    /// A message could not be sent, or nobody listens. It may work later; what was not sent is sent again.
    #[error("could not send to the IPFIX collector")]
    Send(#[source] io::Error),
}

/// Sends the flows of a stream to an IPFIX collector over UDP. Other events are passed over.
///
/// A flow is sent when it has ended, with all it counted; flows that last are sent when the meter's active time-out
/// parts them (30 minutes by default). UDP tells nobody of losses: a collector counts them by the sequence numbers.
/// After an error the batch is sent again, so that a collector may get flows twice.
///
/// Sending does not wait for the collector; it waits for the network card, which is short.
#[derive(Debug)]
pub struct IpfixSink {
    name: String,
    socket: UdpSocket,
    encoder: IpfixEncoder,
    /// A message that could not be sent.
    unsent: Option<Vec<u8>>,
}

impl IpfixSink {
    /// A sink to the collector at this address. IPFIX collectors usually listen at port 4739.
    ///
    /// # Errors
    ///
    /// If there is no way to it.
    pub fn connect(collector: impl ToSocketAddrs, config: IpfixConfig) -> Result<Self, IpfixError> {
        let addresses = collector.to_socket_addrs().map_err(IpfixError::Open)?;
        let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            let own = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let open = || {
                let socket = UdpSocket::bind(own)?;
                socket.connect(address)?;
                Ok(socket)
            };
            match open() {
                Ok(socket) => {
                    return Ok(Self {
                        name: "ipfix".to_owned(),
                        socket,
                        encoder: IpfixEncoder::new(config),
                        unsent: None,
                    });
                }
                Err(error) => failed = error,
            }
        }
        Err(IpfixError::Open(failed))
    }

    /// Sets the sink's name, for pipelines with several. Default: `ipfix`.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Encodes with `encode` and sends what comes of it.
    fn send(
        &mut self,
        encode: impl FnOnce(&mut IpfixEncoder, &mut dyn FnMut(&[u8])),
    ) -> Result<(), IpfixError> {
        if let Some(message) = &self.unsent {
            self.socket.send(message).map_err(IpfixError::Send)?;
            self.unsent = None;
        }
        let mut result = Ok(());
        let (socket, unsent) = (&self.socket, &mut self.unsent);
        encode(&mut self.encoder, &mut |message| {
            if result.is_ok()
                && let Err(error) = socket.send(message)
            {
                *unsent = Some(message.to_vec());
                result = Err(IpfixError::Send(error));
            }
        });
        result
    }
}

impl Sink for IpfixSink {
    type Error = IpfixError;

    fn name(&self) -> &str {
        &self.name
    }

    async fn write(&mut self, events: &[Recorded]) -> Result<(), IpfixError> {
        let now = Timestamp::now();
        for recorded in events {
            if let Payload::Flow(flow) = &recorded.event.payload
                && matches!(flow.phase, FlowPhase::End(_))
            {
                self.send(|encoder, mut send| encoder.push(flow, now, &mut send))?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), IpfixError> {
        self.send(|encoder, mut send| encoder.flush(Timestamp::now(), &mut send))
    }
}

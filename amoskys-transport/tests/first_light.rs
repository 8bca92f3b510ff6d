use amoskys_core::{Class, Event, EventId, Offset, Open, Payload, Seal, Timestamp, Unsealed, Wal};
use amoskys_transport::verify::Verifier;
use amoskys_transport::{Log, LogOptions};

fn event(n: u64, class: Class) -> Event {
    Event {
        id: EventId {
            origin: 1,
            ordinal: n,
        },
        time: Timestamp::from_secs(n as i64),
        class,
        source: "test".into(),
        payload: Payload::default(),
        ..Event::default()
    }
}

#[test]
fn light() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3u64 {
        let mut log = Log::open(dir.path(), LogOptions::new()).unwrap();
        for b in 0..10u64 {
            let class = if b % 3 == 0 {
                Class::Alert
            } else {
                Class::Telemetry
            };
            let events: Vec<_> = (0..20).map(|i| event(round * 1000 + b * 20 + i, class)).collect();
            let sealed = log
                .sealer
                .seal(Unsealed {
                    class,
                    source: &"test".into(),
                    events: &events,
                    position: None,
                    ledger: None,
                })
                .unwrap();
            let at = log.wal.append(sealed.record).unwrap();
            log.wal.wait_durable(at).unwrap();
        }
        let all = log.wal.read(Offset(0), 1 << 20).unwrap();
        assert_eq!(all.len() as u64, (round + 1) * 10);
        for (_, r) in all {
            log.opener.open(&r).unwrap();
        }
        println!("{}", Verifier::new(dir.path()).run().unwrap());
    }
    let report = Verifier::new(dir.path()).run().unwrap();
    println!("{report}");
    assert!(report.is_clean());
}

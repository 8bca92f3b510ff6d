//! Any bytes as what is in a protected event: decrypted only if it was encrypted for that event, never a panic.
#![no_main]

use std::sync::{Arc, LazyLock};

use amoskys_core::event::{Protected, ProtectionScheme};
use amoskys_core::{Event, EventId, Payload, Transform};
use amoskys_transport::protect::{Erased, Protect, ProtectError, Reveal, Subject, SubjectKey, SubjectKeys};
use libfuzzer_sys::fuzz_target;

/// One key for everybody.
struct One;

impl SubjectKeys for One {
    fn key_of(&self, _: &Subject) -> Result<SubjectKey, ProtectError> {
        Ok(SubjectKey::new(1, &[7; 32]))
    }

    fn key(&self, id: u128) -> Result<Option<SubjectKey>, ProtectError> {
        Ok((id == 1).then(|| SubjectKey::new(1, &[7; 32])))
    }

    fn forget(&self, _: &Subject) -> Result<Erased, ProtectError> {
        Ok(Erased::default())
    }
}

static GOOD: LazyLock<Event> = LazyLock::new(|| {
    let mut event = Event {
        id: EventId {
            origin: 1,
            ordinal: 2,
        },
        ..Event::default()
    };
    let mut protect = Protect::new(Arc::new(One), |_: &Event| Some(Subject::new("s")));
    protect.transform(&mut event).expect("protect");
    event
});

fuzz_target!(|input: &[u8]| {
    let reveal = Reveal::new(Arc::new(One));
    let mut event = GOOD.clone();
    assert!(reveal.reveal(&mut event));
    let protected = |sealed| Event {
        payload: Payload::Protected(Box::new(Protected {
            key: 1,
            scheme: ProtectionScheme::HmacSha256Aes256Gcm,
            sealed,
        })),
        ..GOOD.clone()
    };
    let Payload::Protected(good) = &GOOD.payload else {
        return;
    };
    // The fuzzer learns the good one from the comparisons.
    assert_eq!(reveal.reveal(&mut protected(input.to_vec())), input == good.sealed);
    let mut changed = good.sealed.clone();
    for change in input.chunks_exact(2) {
        let at = usize::from(change[0]) % changed.len();
        changed[at] = change[1];
    }
    let same = changed == good.sealed;
    assert_eq!(reveal.reveal(&mut protected(changed)), same);
});

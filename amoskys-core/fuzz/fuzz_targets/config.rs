//! Any text as a configuration file, and as the value of any setting: settings, or errors that say where, never a panic.
#![no_main]

use amoskys_core::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = Config::loader().yaml(text, "fuzz.yaml").load();
    let (name, value) = text.split_once('\n').unwrap_or((text, text));
    let _ = Config::loader().set(name, value).load();
    for name in ["log.budget_bytes", "log.sync_interval", "agent.name", "log.path"] {
        let _ = Config::loader().set(name, value).load();
    }
    let variables = [(format!("AMOSKYS_{name}"), value.to_owned())];
    let _ = Config::loader().environment(variables).load();
});

//! Any bytes are a task or an error, and a task is read as it was written.

#![no_main]

use gateway_api::QueuedTask;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(task) = serde_json::from_slice::<QueuedTask>(data) else {
        return;
    };
    let text = serde_json::to_string(&task).expect("a task is JSON");
    let again = serde_json::from_str::<QueuedTask>(&text).expect("a task that was written is read");
    assert_eq!(again, task);
    let _ = (task.task.name(), task.task.room().hash());
});

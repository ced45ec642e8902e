//! What can't hold on Apache's brokers, and why. A difference that has gone fails.

/// Cases by module and name, each with Apache's reason.
const DIFFERENCES: &[(&str, &str)] = &[];

/// Plays a case on real brokers: it must pass, unless it is known that it can't.
pub(crate) async fn play(name: &str, case: impl Future<Output = ()> + Send + 'static) {
    let reason = DIFFERENCES.iter().find(|(case, _)| *case == name).map(|(_, reason)| *reason);
    let outcome = tokio::spawn(case).await;
    match (outcome, reason) {
        (Ok(()), None) => {}
        (Err(failed), Some(reason)) => println!("{name} differs, as is known ({reason}): {failed}"),
        (Ok(()), Some(reason)) => panic!("{name} holds by now, though it is listed to differ: {reason}"),
        (Err(failed), None) => std::panic::resume_unwind(failed.into_panic()),
    }
}

//! `com migrate`.

use commonplace_node::{Schema, migrate, schemas};

use crate::cli::{Global, Migrate};
use crate::{failure, output, session};

/// Brings the schemas up to date, or with `--check` only says what is left to do.
pub async fn run(global: &Global, arguments: Migrate) -> anyhow::Result<()> {
    let options = session::settings(global)?;
    if global.server.is_some() {
        let problem = "migrate works on the database itself: leave --server away";
        return Err(failure::Refused(problem.into()).into());
    }
    let before = schemas(&options).await?;
    if !arguments.check {
        migrate(&options).await?;
    }
    let after = match arguments.check {
        true => before.clone(),
        false => schemas(&options).await?,
    };
    if global.json {
        output::json(&as_json(&before, &after));
    } else {
        before.iter().zip(&after).for_each(|(b, a)| print(b, a));
    }
    let left: usize = after.iter().map(|schema| schema.state.pending.len()).sum();
    anyhow::ensure!(
        left == 0,
        "{left} migrations are left to do: run `com migrate`"
    );
    Ok(())
}

fn print(before: &Schema, after: &Schema) {
    let state = &after.state;
    output::line(&format!(
        "{:<10} version {} of {}",
        after.service, state.found, state.known
    ));
    for (version, name) in &before.state.pending {
        let word = match state.pending.iter().any(|(left, _)| left == version) {
            true => "pending",
            false => "done",
        };
        output::line(&format!("  {word} {version} {name}"));
    }
}

fn as_json(before: &[Schema], after: &[Schema]) -> serde_json::Value {
    let steps = |schema: &Schema| -> Vec<serde_json::Value> {
        let step =
            |(version, name): &(u32, String)| serde_json::json!({"version": version, "name": name});
        schema.state.pending.iter().map(step).collect()
    };
    let one = |(before, after): (&Schema, &Schema)| {
        serde_json::json!({
            "service": after.service,
            "found": after.state.found,
            "known": after.state.known,
            "oldest": after.state.oldest,
            "pending": steps(after),
            "done": if before.state.found < after.state.found { steps(before) } else { Vec::new() },
        })
    };
    let schemas: Vec<_> = before.iter().zip(after).map(one).collect();
    serde_json::json!({"schemas": schemas})
}

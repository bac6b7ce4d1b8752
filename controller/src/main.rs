//! The controller: see the library.

use anyhow::Result;
use clap::Parser;
use spillway_controller::run;
use spillway_controller::serve::log_to;
use spillway_controller::settings::Settings;

/// musl's allocator takes half of the processor time that a change in many clusters needs. Without
/// huge pages, with which small allocations of several threads take a third more memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let settings = Settings::parse();
    let (log, level) = log_to(std::io::stderr, settings.log_format, &settings.log_level)?;
    tracing::subscriber::set_global_default(log)?;
    if let (Some(from), Some(to), Some(tokens)) =
        (&settings.source, &settings.target, &settings.tokens)
    {
        return run::render(&settings, tokens, from, to);
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let done = runtime.block_on(run::control(&settings, level));
    // A plan that is being made is not waited for.
    runtime.shutdown_background();
    done
}

//! A run as `JUnit` XML, which continuous integration shows as tests: one suite for the run,
//! one case for each trial, and one for each fault that was not tried.

use std::time::Duration;

use anyhow::Context as _;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{NotRun, Run, Verdict, costs};
use crate::faults::fault::Fault;
use crate::faults::trial::Trial;

/// The run as `JUnit` XML. A trial that broke its bound has failed, with a sentence for each
/// promise; one that says nothing, and a fault that can't be tried, is skipped, with the reason;
/// a fault that went wrong on the way is an error.
///
/// # Errors
/// Only if the XML can't be written, which is a bug.
pub fn junit(run: &Run) -> anyhow::Result<String> {
    let mut suite = TestSuite::new(format!("faults of {}", run.stack));
    let [balancers, apps, databases] = run.sizes;
    for (name, value) in [
        ("program", run.program.clone()),
        ("load balancers", balancers.to_string()),
        ("app servers", apps.to_string()),
        ("databases", databases.to_string()),
        ("rate", run.rate.to_string()),
        ("seed", run.seed.to_string()),
        ("interrupted", run.interrupted.to_string()),
    ] {
        suite.add_property((name, value.as_str()));
    }
    let mut total = Duration::ZERO;
    for row in run.rows() {
        for (index, trial) in run.trials_of(row.fault).into_iter().enumerate() {
            let case = case(trial, index + 1);
            total += case.time.unwrap_or_default();
            suite.add_test_case(case);
        }
    }
    suite.add_test_cases(run.not_run.iter().map(untried));
    suite.set_time(total);
    let mut report = Report::new("gen-topology faults");
    report.set_time(total).add_test_suite(suite);
    report.to_string().context("writing JUnit XML")
}

fn case(trial: &Trial, number: usize) -> TestCase {
    let mut status = match Verdict::of(trial) {
        Verdict::Kept => TestCaseStatus::success(),
        Verdict::Broken => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::Void => TestCaseStatus::skipped(),
    };
    match Verdict::of(trial) {
        Verdict::Kept => {}
        Verdict::Broken => {
            let first = trial.broken.first().map_or("", String::as_str);
            status
                .set_type("bound")
                .set_message(first)
                .set_description(trial.broken.join("\n"));
        }
        Verdict::Void => {
            status.set_message(trial.void.as_deref().unwrap_or_default());
        }
    }
    let nodes = trial.nodes.join(", ");
    let mut case = TestCase::new(format!("{} {number} ({nodes})", trial.fault), status);
    case.set_classname(class(&trial.fault));
    case.set_time(Duration::try_from_secs_f64(trial.timeline.end_ms / 1000.0).unwrap_or_default());
    let requests = &trial.measured.requests;
    case.add_property(("requests", requests.sent.to_string().as_str()));
    case.add_property(("requests lost", requests.lost().to_string().as_str()));
    for (what, seen, limit) in costs(trial) {
        if let Some(seen) = seen {
            case.add_property((
                format!("{what} (ms)").as_str(),
                format!("{seen:.1}").as_str(),
            ));
        }
        if let Some(limit) = limit {
            let name = format!("{what} (ms), predicted");
            case.add_property((name.as_str(), format!("{:.1}", limit.ms).as_str()));
        }
    }
    case
}

fn untried(not_run: &NotRun) -> TestCase {
    let mut status = if not_run.failed {
        TestCaseStatus::non_success(NonSuccessKind::Error)
    } else {
        TestCaseStatus::skipped()
    };
    status.set_message(not_run.why.as_str());
    let mut case = TestCase::new(not_run.fault.as_str(), status);
    case.set_classname(class(&not_run.fault));
    case
}

/// Tier and fault, as tools group cases by it.
fn class(fault: &str) -> String {
    let tier = Fault::named(fault).and_then(|fault| fault.tier);
    let tier = tier.map_or("stack".to_owned(), |tier| tier.to_string());
    format!("faults.{tier}.{fault}")
}

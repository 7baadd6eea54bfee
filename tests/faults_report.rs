//! How a run of faults is told: as a table, as `JUnit` XML, as a page, and against another run.
//!
//! `fixtures/runs/run.json` is a run of `examples/ha.json` on a busy machine at 50 requests a
//! second, without the time in which nodes booted. When the layout of a run changes, it has to
//! be made anew.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use gen_topology::faults::report::difference::{Change, Difference};
use gen_topology::faults::report::{Run, Verdict, html, junit, worst};
use gen_topology::faults::timeline::{Point, Timeline};
use gen_topology::faults::watch::{Change as Seen, Subject};
use roxmltree::{Document, Node, ParsingOptions};

use crate::common::{REPOSITORY, TOPOLOGY, TestEnvironment};

fn fixture() -> String {
    fs::read_to_string(Path::new(REPOSITORY).join("tests/fixtures/runs/run.json")).unwrap()
}

fn run() -> Run {
    Run::parse(fixture().as_bytes()).unwrap()
}

/// A place where `run` was kept as run 1.
fn kept(run: &str) -> TestEnvironment {
    let environment = TestEnvironment::with(TOPOLOGY);
    keep(&environment, 1, run);
    environment
}

fn keep(environment: &TestEnvironment, number: u32, run: &str) {
    let runs = "../home/.local/state/gen-topology/runs/web-stack";
    environment.write(format!("{runs}/{number}.json"), run);
}

fn parsed(text: &str) -> Document<'_> {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).unwrap_or_else(|error| panic!("{error}"))
}

fn named<'d>(document: &'d Document<'_>, name: &str) -> Vec<Node<'d, 'd>> {
    let all = document.root().descendants();
    all.filter(|node| node.tag_name().name() == name).collect()
}

/// All text in a node.
fn text(node: Node) -> String {
    node.descendants().filter_map(|node| node.text()).collect()
}

#[test]
fn a_run_is_a_table() {
    let environment = kept(&fixture());
    insta::assert_snapshot!(environment.run(&["faults", "report"]).exits(0).text());
    let of_the_lab = environment.run(&["faults", "--lab", "web-stack", "report", "1"]);
    assert_eq!(
        of_the_lab.exits(0).stdout,
        environment.run(&["faults", "report"]).stdout
    );
    let json = environment.run(&["faults", "report", "--format", "json"]);
    assert_eq!(Run::parse(json.exits(0).stdout.as_bytes()).unwrap(), run());
    let unknown = environment.run(&["faults", "report", "7"]).exits(1);
    assert!(
        unknown
            .stderr
            .contains("there is no run 7 of web-stack; there is 1"),
        "{}",
        unknown.text()
    );
}

#[test]
fn a_run_is_junit_xml() {
    let environment = kept(&fixture());
    let output = environment
        .run(&["faults", "report", "--format", "junit"])
        .exits(0);
    insta::assert_snapshot!(output.stdout);
    let document = parsed(&output.stdout);
    let run = run();
    assert_eq!(named(&document, "testsuite").len(), 1);
    let suite = named(&document, "testsuite")[0];
    let cases = named(&document, "testcase");
    assert_eq!(cases.len(), run.trials.len() + run.not_run.len());
    let broken = run
        .trials
        .iter()
        .filter(|trial| Verdict::of(trial) == Verdict::Broken);
    let broken: Vec<_> = broken.collect();
    assert_eq!(
        suite.attribute("failures").unwrap(),
        broken.len().to_string()
    );
    for (failure, trial) in named(&document, "failure").into_iter().zip(&broken) {
        for sentence in &trial.broken {
            assert!(text(failure).contains(sentence), "{sentence}");
        }
    }
    let skipped: Vec<&str> = named(&document, "skipped")
        .iter()
        .filter_map(|node| node.attribute("message"))
        .collect();
    assert!(
        skipped.iter().any(|why| why.contains("sent late")),
        "{skipped:?}"
    );
    assert!(
        skipped.iter().any(|why| why.contains("netem")),
        "{skipped:?}"
    );
    let names: BTreeSet<_> = cases.iter().map(|case| case.attribute("name")).collect();
    assert_eq!(names.len(), cases.len(), "every case has a name of its own");
    let mut run = run;
    run.not_run[0].failed = true;
    let xml = junit::junit(&run).unwrap();
    let errors = parsed(&xml);
    assert_eq!(
        named(&errors, "error").len(),
        1,
        "what went wrong is no reason to skip"
    );
}

#[test]
fn a_run_is_a_page_of_its_own() {
    let run = run();
    let page = html::page(&run).unwrap();
    assert_eq!(page, html::page(&run).unwrap());
    assert!(page.starts_with("<!DOCTYPE html>"));
    let document = parsed(&page);
    for row in run.rows() {
        let sections = named(&document, "section");
        let section = sections
            .into_iter()
            .find(|section| section.attribute("id") == Some(row.fault))
            .unwrap_or_else(|| panic!("nothing about {}", row.fault));
        let words = text(section);
        for (what, limit) in row.bound.limits() {
            assert!(words.contains(&limit.formula), "{}: {what}", row.fault);
            assert!(words.contains(&limit.values), "{}: {what}", row.fault);
        }
        for sentence in &row.broken {
            assert!(words.contains(sentence), "{}: {sentence}", row.fault);
        }
    }
    let all = text(document.root());
    for not_run in &run.not_run {
        assert!(all.contains(&not_run.fault) && all.contains(&not_run.why));
    }
    assert_eq!(named(&document, "figure").len(), run.rows().len());
}

#[test]
fn a_page_needs_nothing_else() {
    let page = html::page(&run()).unwrap();
    let document = parsed(&page);
    for tag in ["script", "link", "img", "iframe", "object", "use", "image"] {
        assert_eq!(named(&document, tag).len(), 0, "<{tag}>");
    }
    for (at, _) in page.match_indices("http") {
        let address: String = page[at..].chars().take(40).collect();
        assert!(address.starts_with("http://www.w3.org/"), "{address}");
    }
    assert!(!page.contains("url(") && !page.contains("@import"));
    let ids: Vec<&str> = document
        .descendants()
        .filter_map(|node| node.attribute("id"))
        .collect();
    let different: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), different.len(), "an id is there twice: {ids:?}");
    for link in named(&document, "a") {
        let target = link.attribute("href").unwrap().strip_prefix('#').unwrap();
        assert!(different.contains(target), "#{target} leads nowhere");
    }
}

#[test]
fn a_page_can_be_heard() {
    let page = html::page(&run()).unwrap();
    let document = parsed(&page);
    for figure in named(&document, "figure") {
        let drawing = figure
            .descendants()
            .find(|node| node.attribute("role") == Some("img"))
            .unwrap();
        let names = drawing.attribute("aria-labelledby").unwrap();
        for name in names.split(' ') {
            let label = drawing
                .children()
                .find(|node| node.attribute("id") == Some(name));
            assert!(!text(label.unwrap()).is_empty(), "{name}");
        }
    }
    for cell in named(&document, "th") {
        assert!(cell.attribute("scope").is_some(), "{}", text(cell));
    }
    let levels: Vec<&str> = document
        .descendants()
        .map(|node| node.tag_name().name())
        .filter(|name| matches!(*name, "h1" | "h2" | "h3"))
        .collect();
    assert_eq!(levels[0], "h1");
    assert!(
        levels.windows(2).all(|pair| pair != ["h1", "h3"]),
        "{levels:?}"
    );
}

#[test]
fn nothing_in_a_run_becomes_markup() {
    let hostile = "</title></style><script>alert('&\"')</script>{{ 1 }}{% if %}]]>\u{1}\u{1b}[31m";
    let mut run = run();
    run.stack = hostile.into();
    run.program = hostile.into();
    run.not_run[0].why = hostile.into();
    run.not_run[0].fault = hostile.into();
    for trial in &mut run.trials {
        trial.nodes = vec![hostile.into()];
        trial.broken.push(hostile.into());
        trial.bound.gap.as_mut().unwrap().formula = hostile.into();
        trial.measured.requests.failed.insert(hostile.into(), 3);
        for change in &mut trial.timeline.changes {
            change.is = hostile.into();
            if let Subject::Server { app, by } = &mut change.subject {
                *app = format!("{hostile}{app}");
                *by = hostile.into();
            }
        }
    }
    run.trials[0].fault = hostile.into();
    let page = html::page(&run).unwrap();
    let document = parsed(&page);
    assert_eq!(named(&document, "script").len(), 0);
    let told = hostile.replace(['\u{1}', '\u{1b}'], "\u{fffd}");
    assert!(text(named(&document, "h1")[0]).contains(&told));
    let xml = junit::junit(&run).unwrap();
    let document = parsed(&xml);
    assert_eq!(named(&document, "script").len(), 0);
    let cases = named(&document, "testcase").len();
    assert_eq!(cases, run.trials.len() + run.not_run.len());
}

#[test]
fn a_drawing_stays_on_its_sheet() {
    for (what, run) in unusual_runs() {
        let page = html::page(&run).unwrap();
        assert!(!page.contains("NaN") && !page.contains(">inf"), "{what}");
        let document = parsed(&page);
        for figure in named(&document, "figure") {
            let drawing = figure
                .descendants()
                .find(|node| node.has_tag_name(svg("svg")))
                .unwrap();
            let problems = off_the_sheet(drawing);
            assert!(problems.is_empty(), "{what}: {problems:#?}");
        }
    }
}

fn svg(name: &str) -> (&str, &str) {
    ("http://www.w3.org/2000/svg", name)
}

/// The fixture as it is, and stretched, cut and crowded in every way that a trial might be.
fn unusual_runs() -> Vec<(&'static str, Run)> {
    let changed = |change: fn(&mut Timeline)| {
        let mut run = run();
        run.trials
            .iter_mut()
            .for_each(|trial| change(&mut trial.timeline));
        run
    };
    let stretched = changed(|line| {
        let factor = 70_000.0 / line.end_ms;
        for ms in [
            &mut line.broken_ms,
            &mut line.undone_ms,
            &mut line.whole_ms,
            &mut line.end_ms,
        ] {
            *ms *= factor;
        }
        line.changes
            .iter_mut()
            .for_each(|change| change.at_ms *= factor);
        line.points.resize(
            1401,
            Point {
                good: 3,
                bad: 1,
                slowest_ms: 9_000_000.0,
            },
        );
    });
    let crowded = changed(|line| {
        for (app, by) in (0..90).flat_map(|app| (0..3).map(move |by| (app, by))) {
            for (at_ms, is) in [(0.0, "UP"), (1500.0, "DOWN"), (1500.01, "MAINT (via x)")] {
                let subject = Subject::Server {
                    app: format!("{}-{app}", "long".repeat(14)),
                    by: format!("lb-{by}"),
                };
                line.changes.push(Seen {
                    at_ms,
                    subject,
                    is: is.into(),
                });
            }
        }
    });
    let mut limits = run();
    for trial in &mut limits.trials {
        for limit in [&mut trial.bound.gap, &mut trial.bound.detect]
            .into_iter()
            .flatten()
        {
            limit.ms = 1e9;
        }
    }
    vec![
        ("as measured", run()),
        ("70 s", stretched),
        ("270 lanes", crowded),
        ("limits beyond the end", limits),
        (
            "nothing happened",
            changed(|line| *line = Timeline::default()),
        ),
        (
            "undone and whole at once",
            changed(|line| {
                line.undone_ms = line.broken_ms;
                line.whole_ms = line.broken_ms;
            }),
        ),
        ("ended early", changed(|line| line.end_ms = line.broken_ms)),
    ]
}

/// Everything of a drawing that leaves its sheet.
fn off_the_sheet(drawing: Node) -> Vec<String> {
    let number = |node: Node, name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
    let view: Vec<f64> = drawing
        .attribute("viewBox")
        .unwrap()
        .split(' ')
        .map(|part| part.parse().unwrap())
        .collect();
    let mut problems = Vec::new();
    let mut is_on = |node: Node, xs: [f64; 2], ys: [f64; 2]| {
        let is_between = |value: f64, most: f64| (0.0..=most).contains(&value);
        if !xs.iter().all(|x| is_between(*x, view[2]))
            || !ys.iter().all(|y| is_between(*y, view[3]))
        {
            problems.push(format!(
                "{} {:?} at {xs:?}, {ys:?}",
                node.tag_name().name(),
                node.text()
            ));
        }
    };
    for node in drawing.descendants() {
        match node.tag_name().name() {
            "rect" => {
                let (x, y) = (number(node, "x"), number(node, "y"));
                let (width, height) = (number(node, "width"), number(node, "height"));
                assert!(width >= 0.0 && height >= 0.0);
                is_on(node, [x, x + width - 0.1], [y, y + height]);
            }
            "line" => is_on(
                node,
                [number(node, "x1"), number(node, "x2")],
                [number(node, "y1"), number(node, "y2")],
            ),
            "text" => {
                // A letter of 11 px is about 6 wide.
                let letters = node
                    .text()
                    .unwrap_or_default()
                    .chars()
                    .map(|_| 6.0)
                    .sum::<f64>();
                let x = number(node, "x");
                let left = match node.attribute("text-anchor").unwrap() {
                    "end" => x - letters,
                    "middle" => x - letters / 2.0,
                    _ => x,
                };
                let y = number(node, "y");
                is_on(node, [left, left + letters], [y - 9.0, y + 3.0]);
            }
            "path" => {
                let path = node.attribute("d").unwrap();
                for part in path.split('Z').filter(|part| !part.is_empty()) {
                    let numbers: Vec<f64> = part
                        .split(['M', 'V', 'H', ' '])
                        .filter(|number| !number.is_empty())
                        .map(|number| number.parse().unwrap())
                        .collect();
                    let [x1, y1, y2, x2, y3] = numbers[..] else {
                        panic!("{part}")
                    };
                    assert!((y1 - y3).abs() < 0.01, "{part} is not closed");
                    is_on(node, [x1, x2], [y1, y2]);
                }
            }
            _ => {}
        }
    }
    problems
}

#[test]
fn the_worst_trial_is_drawn() {
    let run = run();
    let trials = run.trials_of("lb-power-off");
    assert!((worst(&trials).unwrap().measured.requests.longest_gap_ms - 340.0).abs() < 1.0);
    let mixed = run.trials_of("db-primary-kill");
    assert!(
        mixed[0].void.is_some(),
        "the first one is void and has the longer gap"
    );
    assert!(std::ptr::eq(worst(&mixed).unwrap(), mixed[1]));
    assert_eq!(worst(&[]), None);
}

#[test]
fn void_trials_count_only_where_there_is_no_other() {
    let mut run = run();
    let gap = |run: &Run| run.rows()[1].gap.worst;
    assert_eq!(run.rows()[1].fault, "db-primary-kill");
    assert_eq!((run.rows()[1].repeats, run.rows()[1].void), (2, 1));
    assert!(gap(&run) < 200.0, "{}", gap(&run));
    for trial in &mut run.trials {
        trial.void = Some("late".into());
    }
    assert!(gap(&run) > 300.0, "{}", gap(&run));
    assert_eq!(run.rows()[1].verdict(), Verdict::Void);
    assert!(html::page(&run).unwrap().contains("Nothing was measured"));
}

#[test]
fn a_report_is_written_whole_or_not_at_all() {
    let environment = kept(&fixture());
    let report = |arguments: &[&str]| environment.run(&[&["faults", "report"], arguments].concat());
    let output = report(&["--format", "html", "-o", "report.html"]).exits(0);
    assert_eq!(output.stdout, "");
    assert!(
        output.stderr.contains("wrote report.html"),
        "{}",
        output.text()
    );
    let page = report(&["--format", "html"]).exits(0).stdout;
    assert_eq!(environment.read("report.html"), page);
    // A table in a file has no colours, whatever the terminal has.
    report(&["--color", "always", "-o", "table.txt"]).exits(0);
    assert_eq!(environment.read("table.txt"), report(&[]).exits(0).stdout);
    let nowhere = report(&["-o", "no/such/report.html"]).exits(1);
    assert!(
        nowhere.stderr.contains("there is no directory no/such"),
        "{}",
        nowhere.text()
    );
    assert!(
        report(&["-o", "."])
            .exits(1)
            .stderr
            .contains("is a directory")
    );
    let names: Vec<_> = fs::read_dir(environment.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !names.iter().any(|name| name.starts_with(".tmp")),
        "{names:?}"
    );
}

#[test]
fn another_layout_is_refused() {
    let environment = kept(&fixture());
    let other = |version: u32| {
        fixture()
            .replacen("\"version\": 1", &format!("\"version\": {version}"), 1)
            .replacen("\"rate\"", "\"pace\"", 1)
    };
    for (number, run, says) in [
        (2, other(2), "newer layout, 2"),
        (3, other(0), "older layout, 0"),
        (4, "{}".to_owned(), "this is no run of `faults run`"),
        (
            5,
            fixture()[..5000].to_owned(),
            "this is no run of `faults run`",
        ),
    ] {
        keep(&environment, number, &run);
        let output = environment
            .run(&["faults", "report", &number.to_string()])
            .exits(1);
        assert!(output.stderr.contains(says), "{}", output.text());
        assert!(output.stdout.is_empty());
    }
    let list = environment.run(&["faults", "runs"]).exits(0);
    assert!(
        list.stderr.contains("2.json") && list.stderr.contains("5.json"),
        "{}",
        list.text()
    );
    assert_eq!(list.stdout.lines().count(), 2, "{}", list.text());
}

/// The fixture, with longer gaps after a power-off and without the app server's fault.
fn worse() -> Run {
    let mut worse = run();
    worse.rate = 200;
    worse.trials.retain(|trial| trial.fault != "app-power-off");
    for trial in &mut worse.trials {
        trial.measured.requests.slowest_ms /= 3.0;
        if trial.fault == "lb-power-off" {
            trial.measured.requests.longest_gap_ms += 100.0;
            trial.measured.requests.failed.insert("timed out".into(), 9);
        }
    }
    worse
}

#[test]
fn a_run_is_held_against_another() {
    let environment = kept(&fixture());
    keep(&environment, 2, &serde_json::to_string(&worse()).unwrap());
    let against = |format: &str| {
        environment.run(&[
            "faults",
            "report",
            "2",
            "--against",
            "1",
            "--format",
            format,
        ])
    };
    insta::assert_snapshot!(against("table").exits(0).text());
    let json: serde_json::Value = serde_json::from_str(&against("json").exits(0).stdout).unwrap();
    assert_eq!(json["faults"][0]["fault"], "lb-power-off");
    assert_eq!(json["faults"][0]["gap"]["change"], "worse");
    assert_eq!(json["faults"][0]["slowest"]["change"], "better");
    assert_eq!(json["faults"][0]["write_gap"]["change"], "same");
    assert_eq!(json["only_then"][0], "app-power-off");
    against("html").exits(64);
    against("junit").exits(64);
    let unknown = environment
        .run(&["faults", "report", "--against", "9"])
        .exits(1);
    assert!(
        unknown.stderr.contains("there are 1, 2"),
        "{}",
        unknown.text()
    );
}

#[test]
fn a_run_does_not_differ_from_itself() {
    let difference = Difference::between(&run(), &run());
    assert_eq!(difference.faults.len(), 3);
    assert_eq!(difference.remarks, Vec::<String>::new());
    assert!(difference.only_now.is_empty() && difference.only_then.is_empty());
    for fault in &difference.faults {
        assert_eq!(fault.worse(), Vec::<&str>::new());
        assert_eq!(fault.lost.change, Change::Same);
    }
    let worse = Difference::between(&worse(), &run());
    assert_eq!(worse.faults[0].worse(), ["gap", "lost"]);
    let void = &worse.faults[1];
    assert!(
        void.gap.then.worst < 200.0,
        "void trials don't count: {void:?}"
    );
}

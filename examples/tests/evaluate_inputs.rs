//! Data that `evaluate` has not been made on: other columns, other writing, things that are missing, and mistakes, which are named.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{fail, program, succeed};

fn evaluate(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = program("evaluate");
    command.stdin(Stdio::null()).args(arguments).current_dir(dir);
    command
}

/// What it printed, as lines of JSON, and what it said beside.
fn rows(dir: &Path, arguments: &[&str]) -> (Vec<Value>, String) {
    let output = succeed(evaluate(dir, arguments).args(["--format", "json"]));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = |line| serde_json::from_str(line).expect("an object a line");
    (
        text.lines().map(row).collect(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("write");
}

/// Rows around zero, every twentieth far from them.
fn table(rows: usize, field: impl Fn(usize, f64) -> String) -> String {
    let mut text = String::new();
    for n in 0..rows {
        let odd = n % 20 == 7;
        let value = ((n * 37 % 101) as f64 - 50.0) / 50.0 + if odd { 9.0 } else { 0.0 };
        writeln!(
            text,
            "{},{},{}",
            field(n, value),
            value / 3.0 + 0.01 * (n % 7) as f64,
            u8::from(odd)
        )
        .expect("text");
    }
    text
}

#[test]
fn tables_may_lack_values_and_be_written_otherwise() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let missing = |n, value: f64| match n % 10 {
        1 => String::new(),
        2 => "NaN".to_owned(),
        3 => "inf".to_owned(),
        _ => value.to_string(),
    };
    write(dir, "s/gaps.csv", format!("a,b,label\n{}", table(200, missing)));
    write(
        dir,
        "s/flat.csv",
        format!("a,b,label\n{}", table(200, |_, _| "5".to_owned())),
    );
    let plain = format!("a,b,label\n{}", table(200, |_, value| value.to_string()));
    write(dir, "s/plain.csv", &plain);
    let quoted: String = plain
        .lines()
        .map(|line| format!("\"{}\"\r\n", line.replace(',', "\",\"")))
        .collect();
    write(dir, "s/quoted.csv", format!("\u{feff}{quoted}\r\n"));
    write(dir, "s/three.csv", "a,label\n1,0\n2,0\n9,1\n");
    let words = plain.replace(",1\n", ",Attack\n").replace(",0\n", ",BENIGN\n");
    write(dir, "s/words, ü.csv", words);
    write(dir, "s/reference_means.csv", "not,a,set\n");
    let detectors = "Ensemble,IForest,KNN,LOF,HBOS,PCA";
    let (rows, said) = rows(dir, &["adbench", "--data", "s", "--detectors", detectors]);
    let area = |set: &str, detector: &str| {
        let row = rows
            .iter()
            .find(|row| row["set"] == set && row["detector"] == detector);
        row.and_then(|row| row["auroc"].as_f64())
    };
    for set in ["gaps", "flat", "plain", "quoted"] {
        let area = area(set, "Ensemble").expect("a row");
        assert!(area > 0.95, "{set}: {area}");
    }
    assert_eq!(area("plain", "KNN"), area("quoted", "KNN"));
    assert_eq!(area("plain", "KNN"), area("words, ü", "KNN"));
    assert!(area("three", "Ensemble").is_some());
    assert!(
        said.contains("gaps.csv") && said.contains("missing or infinite"),
        "{said}"
    );
    // A reader of CSV finds as many fields in each line.
    let arguments = ["adbench", "--data", "s", "--detectors", "HBOS", "--format", "csv"];
    let output = succeed(&mut evaluate(dir, &arguments));
    let lines: Vec<csv::StringRecord> = csv::Reader::from_reader(&*output.stdout)
        .records()
        .collect::<Result<_, _>>()
        .expect("CSV");
    assert!(lines.iter().any(|line| &line[1] == "words, ü"), "{lines:?}");
}

#[test]
fn figures_that_do_not_exist_are_no_numbers() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::create_dir(dir.join("benign")).expect("a folder");
    std::fs::copy(support::data("lab.pcap"), dir.join("benign/lab.pcap")).expect("copy");
    // Without attacks there is no curve.
    for (format, nothing) in [("table", " - "), ("csv", ",,"), ("json", "\"auroc\":null")] {
        let output = succeed(&mut evaluate(
            dir,
            &["pcap", "--data", ".", "--format", format, "--report", "p.html"],
        ));
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let page = std::fs::read_to_string(dir.join("p.html")).expect("the page");
        for text in [&printed, &page] {
            assert!(
                !text.contains("NaN") && !text.contains("inf,") && !text.contains("-0."),
                "{text}"
            );
        }
        assert!(printed.contains(nothing), "{printed}");
    }
}

#[test]
fn one_bad_set_does_not_hide_the_others_and_is_named_by_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let good = format!("a,b,label\n{}", table(100, |_, value| value.to_string()));
    write(dir, "s/good.csv", &good);
    write(dir, "s/empty.csv", "");
    write(dir, "s/latin.csv", b"a,label\n1,0\n\xff,1\n");
    write(dir, "s/onekind.csv", "a,label\n1,0\n2,0\n");
    write(dir, "s/short.csv", "a,b,label\n1,2,0\n1,1\n");
    write(dir, "s/word.csv", "a,label\n1,0\n2,1\nx,0\n");
    write(dir, "s/torn.csv.gz", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1]);
    let mut command = evaluate(dir, &["adbench", "--data", "s", "--detectors", "HBOS"]);
    let output = command.output().expect("start");
    assert!(!output.status.success());
    let (shown, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(shown.contains("good"), "{shown}");
    for part in [
        "empty.csv: the file is empty",
        "latin.csv: line 3",
        "onekind.csv: 2 rows",
        "short.csv: line 3: 2 fields, not 3",
        "word.csv: line 4, column 1 (a): \"x\"",
        "torn.csv.gz: line",
        "6 of 7 sets",
    ] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    let (_, why) = fail(&mut evaluate(dir, &["ids", "--data", "s/onekind.csv"]));
    assert!(
        why.contains("onekind.csv") && why.contains("both labels"),
        "{why}"
    );
}

#[test]
fn flows_of_another_file_may_come_in_other_columns_and_with_words_never_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let flow = |n: usize| {
        let odd = n.is_multiple_of(8);
        let bytes = if odd { 9_000 + n } else { 100 + n * 7 % 90 };
        let rate = match n % 9 {
            0 => "Infinity".to_owned(),
            1 => String::new(),
            _ => (n % 5).to_string(),
        };
        let service = if odd { "tftp" } else { "http" };
        (bytes, rate, service, u8::from(odd))
    };
    let mut train = String::from("id,bytes,rate,service,attack,label\n");
    let mut test = String::from("Label,\"Service\",Bytes,more,Rate\r\n");
    for n in 0..400 {
        let (bytes, rate, service, label) = flow(n);
        writeln!(train, "flow-{n},{bytes},{rate},{service},x,{label}").expect("text");
        let (bytes, rate, service, label) = flow(n + 1000);
        let service = if n % 50 == 3 { "never, seen" } else { service };
        let rate = if n == 17 { "fast" } else { &rate };
        write!(test, "{label},\"{service}\",{bytes},{n},{rate}\r\n").expect("text");
    }
    write(dir, "train.csv", train);
    write(dir, "test.csv", test);
    let (rows, said) = rows(dir, &["ids", "--train", "train.csv", "--test", "test.csv"]);
    assert!(rows.len() >= 4, "{rows:?}");
    for row in &rows {
        assert!(row["auroc"].as_f64().expect("a number") > 0.9, "{row}");
    }
    assert!(
        said.contains("test.csv: line 19") && said.contains("\"fast\""),
        "{said}"
    );
    // The file that is wrong is the one that is named.
    write(dir, "honest.csv", "bytes,rate,service,label\n1,2,http,0\n");
    let (_, why) = fail(&mut evaluate(
        dir,
        &["ids", "--train", "train.csv", "--test", "honest.csv"],
    ));
    assert!(why.contains("evaluate: honest.csv: 1 test rows"), "{why}");
    // Of one family nothing is left to learn how a new one looks.
    let open_set = ["ids", "--train", "train.csv", "--test", "test.csv", "--open-set"];
    let (_, why) = fail(&mut evaluate(dir, &open_set));
    assert!(why.contains("two at least; there are 1"), "{why}");
    write(dir, "less.csv", "bytes,label\n1,0\n2,1\n");
    let (_, why) = fail(&mut evaluate(
        dir,
        &["ids", "--train", "train.csv", "--test", "less.csv"],
    ));
    assert!(why.contains("less.csv") && why.contains("rate"), "{why}");
}

#[test]
fn edges_may_come_by_the_second_out_of_order_and_with_other_words_for_honest_ones() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let mut edges = Vec::new();
    for minute in 0..300 {
        edges.extend((0..10).map(|host| (minute, format!("h{host}"), format!("s{}", host % 3), "benign")));
        if minute % 50 == 49 {
            edges.extend((0..40).map(|n| (minute, "x".to_owned(), format!("v{n}"), "sweep")));
        }
    }
    let text = |edges: &[(i32, String, String, &str)], unit: i32| {
        let edge = |(minute, src, dst, attack): &(i32, String, String, &str)| {
            format!("{attack},{}.25,{dst},note,{src}\n", minute * unit)
        };
        edges.iter().map(edge).collect::<String>()
    };
    write(
        dir,
        "m.csv",
        format!("attack,minute,dst,extra,src\n{}", text(&edges, 1)),
    );
    write(
        dir,
        "s.csv",
        format!("attack,second,dst,extra,src\n{}", text(&edges, 60)),
    );
    edges.rotate_left(700);
    write(
        dir,
        "r.csv",
        format!("attack,minute,dst,extra,src\n{}", text(&edges, 1)),
    );
    let area = |file: &str| {
        let (rows, said) = rows(dir, &["graph", "--data", file]);
        (rows[0]["auroc"].as_f64().expect("a number"), said)
    };
    let (minutes, _) = area("m.csv");
    assert!(minutes > 0.95);
    assert_eq!(area("s.csv").0, minutes, "seconds are minutes");
    let (rotated, said) = area("r.csv");
    assert!(rotated == minutes && said.contains("order of time"), "{said}");
    let refused = |text: &str| {
        write(dir, "bad.csv", format!("src,dst,minute,attack\n{text}"));
        fail(&mut evaluate(dir, &["graph", "--data", "bad.csv"])).1
    };
    for (text, part) in [
        ("1,2,noon,-\n", "line 2, column 3 (minute)"),
        ("1,2,3,-\n1,2\n", "line 3"),
        ("1,2,3,-\n", "0 of them attacks"),
        ("1,2,3,-\n1,2,900000000000000000,x\n", "2^32 minutes"),
    ] {
        let why = refused(text);
        assert!(why.contains("bad.csv") && why.contains(part), "{why}");
    }
}

#[test]
fn traces_may_be_empty_quoted_and_split_otherwise() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let normal = |n: usize| -> String {
        let calls = (0..20 + n % 13).map(|at| ["3", "4", "5", "6", "91"][(at * (1 + n % 3)) % 5]);
        calls.collect::<Vec<_>>().join(" ")
    };
    let mut text = String::from("label,family,split,trace_id,syscalls\r\n");
    for n in 0..60 {
        write!(text, "normal,,train,t{n},\"{}\"\r\n", normal(n)).expect("text");
        write!(text, "normal,,test,v{n},{} {n}\r\n", normal(n + 1)).expect("text");
        if n % 4 == 0 {
            write!(
                text,
                "attack,Shell,attack,a{n},200 {n} 201 4000000000 203 204 {n}\r\n"
            )
            .expect("text");
        }
    }
    text.push_str("normal,,test,e,\r\nattack,Shell,attack,e,\r\n");
    write(dir, "t.csv", &text);
    let (rows, said) = rows(dir, &["adfa-ld", "--data", "t.csv", "--halves", "3"]);
    assert!(said.contains("61 normal and 16 attack traces"), "{said}");
    assert!(rows[0]["auroc"].as_f64().expect("a number") > 0.9, "{}", rows[0]);
    for (name, text, part) in [
        (
            "short.csv",
            "label,split,syscalls\nnormal,train,1 2 3\nnormal\n",
            "line 3",
        ),
        (
            "word.csv",
            "label,split,syscalls\nnormal,train,1 x 3\n",
            "line 2, column 3 (syscalls)",
        ),
        (
            "half.csv",
            "label,split,syscalls\nnormal,train,1 2 3\n",
            "traces to score",
        ),
        (
            "none.csv",
            "label,split,syscalls\nnormal,validation,1 2 3\nattack,,1 2\n",
            "to train on",
        ),
    ] {
        write(dir, name, text);
        let (_, why) = fail(&mut evaluate(dir, &["adfa-ld", "--data", name]));
        assert!(why.contains(name) && why.contains(part), "{why}");
    }
}

#[test]
fn series_may_have_gaps_other_intervals_and_profiles() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let moment = |row: i64| {
        let (day, second) = (row * 300 / 86_400, row * 300 % 86_400);
        format!(
            "2020-01-{:02} {:02}:{:02}:{:02}",
            day + 1,
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    };
    let series = |rows: i64, value: &dyn Fn(i64) -> String| {
        let line = |row| format!("{},{}\n", moment(row), value(row));
        let kept = (0..rows).filter(|row| !(1_500..1_510).contains(row));
        format!("timestamp,value\n{}", kept.map(line).collect::<String>())
    };
    let usual = |row: i64| 10.0 + (row % 288) as f64 / 100.0 + (row * 7919 % 97) as f64 / 500.0;
    let value = |row: i64| match row {
        2_000..2_010 => "60".to_owned(),
        _ if row % 97 == 0 => String::new(),
        _ => usual(row).to_string(),
    };
    write(dir, "data/x/gaps.csv", series(3_000, &value));
    write(dir, "data/x/flat.csv", series(600, &|_| "5".to_owned()));
    write(dir, "data/x/one.csv", series(1, &|_| "5".to_owned()));
    write(dir, "data/x/none.csv", series(0, &|_| "5".to_owned()));
    write(dir, "data/x/unlabelled.csv", series(5, &|_| "5".to_owned()));
    let windows = format!(
        "{{\"x/gaps.csv\": [[\"{}\", \"{}.000000\"]], \"x/flat.csv\": [], \"x/one.csv\": [], \"x/none.csv\": [], \"x/absent.csv\": []}}",
        moment(1_995),
        moment(2_030)
    );
    write(dir, "windows.json", &windows);
    let (quiet, said) = rows(dir, &["nab", "--data", "."]);
    let of = |rows: &[Value], set: &str, metric: &str| {
        let row = rows.iter().find(|row| row["set"] == set).expect("a row");
        row[metric].as_f64()
    };
    assert_eq!(of(&quiet, "gaps", "found"), Some(1.0));
    assert_eq!(of(&quiet, "flat", "false"), Some(0.0));
    assert!(
        said.contains("1 of 5 series") && said.contains("1 series below"),
        "{said}"
    );

    // A series may be packed, and is never looked for elsewhere.
    let plain = std::fs::read(dir.join("data/x/gaps.csv")).expect("the series");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &plain).expect("pack");
    write(dir, "data/x/gaps.csv.gz", packed.finish().expect("pack"));
    std::fs::remove_file(dir.join("data/x/gaps.csv")).expect("remove");
    let (again, _) = rows(dir, &["nab", "--data", "."]);
    assert_eq!(of(&again, "gaps", "standard"), of(&quiet, "gaps", "standard"));
    write(dir, "windows.json", r#"{"../../elsewhere.csv": []}"#);
    let (_, why) = fail(&mut evaluate(dir, &["nab", "--data", "."]));
    assert!(
        why.contains("elsewhere.csv") && why.contains("no series below data/"),
        "{why}"
    );
    write(dir, "windows.json", &windows);

    // Profiles of the folder count: one that forgives a miss leaves nothing to lose.
    write(
        dir,
        "profiles.json",
        r#"{"standard": {"CostMatrix": {"tpWeight": 3.0, "fnWeight": 1.0, "fpWeight": 0.11}}, "mine": {}}"#,
    );
    let (weighed, said) = rows(dir, &["nab", "--data", "."]);
    assert!(said.contains("profile mine"), "{said}");
    let (before, after) = (of(&quiet, "gaps", "standard"), of(&weighed, "gaps", "standard"));
    assert!(after > before && of(&quiet, "gaps", "low_fp") == of(&weighed, "gaps", "low_fp"));

    write(
        dir,
        "data/x/flat.csv",
        "timestamp,value\n2020-01-01 00:00:00,1\nyesterday,2\n",
    );
    let (_, why) = fail(&mut evaluate(dir, &["nab", "--data", "."]));
    assert!(why.contains("flat.csv: line 3, column 1 (timestamp)"), "{why}");
    write(dir, "windows.json", windows.replace("2020-01-07", "2021-01-07"));
    let (_, why) = fail(&mut evaluate(dir, &["nab", "--data", "."]));
    assert!(why.contains("windows.json: x/gaps.csv"), "{why}");
    write(dir, "windows.json", "{");
    let (_, why) = fail(&mut evaluate(dir, &["nab", "--data", "."]));
    assert!(why.contains("windows.json"), "{why}");
}

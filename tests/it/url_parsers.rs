//! Two parsers that share no code agree where an accepted deep link goes (contract E19-E22): `url`, which we ask, and Ada, the
//! C++ parser of Node.js. A difference between parsers is how an open redirect is made.
//!
//! Over the tests of the WHATWG URL standard, as the `url` package that Cargo.lock names brings them, and over links put
//! together by chance.

use afflux::catalog::deep_link::DeepLinkHosts;

/// Inputs of the WHATWG's `urltestdata.json`, with and without a host of ours in them.
fn whatwg_inputs() -> Vec<String> {
    // Of other platforms nothing may be there.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "url").expect("we depend on it");
    let manifest = std::path::Path::new(package["manifest_path"].as_str().unwrap());
    let file = manifest.with_file_name("tests").join("urltestdata.json");
    let tests: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let inputs = tests.iter().filter_map(|test| test.get("input")?.as_str()).map(str::to_owned);
    let inputs: Vec<String> = inputs.collect();
    assert!(inputs.len() > 500, "{} of {}", inputs.len(), file.display());
    inputs
}

/// Every host is ours: what is accepted is what the parser takes for a host at all. `x` is in no list of Ada's.
fn lists(host: &str) -> Option<DeepLinkHosts> {
    DeepLinkHosts::parse(&[host.to_owned()], true).ok()
}

/// Checks one link; returns whether it was accepted.
fn agree(link: &str) -> bool {
    // Whatever host our parser sees is put on the list, so that acceptance hides no difference.
    let Some(host) = url::Url::parse(link).ok().and_then(|url| url.host_str().map(str::to_owned)) else { return false };
    let Some(Ok(page)) = lists(&host).map(|hosts| hosts.check(link)) else { return false };
    let ours = url::Url::parse(&page).unwrap();
    for text in [link, page.as_str()] {
        let Ok(theirs) = ada_url::Url::parse(text, None) else {
            // Which Punycode labels are valid depends on the version of Unicode's tables. Who refuses goes nowhere, so it is no
            // other host. Nothing else may be refused.
            assert!(host.split('.').any(|label| label.starts_with("xn--")), "Ada refuses {text:?}, accepted as {page}");
            return false;
        };
        assert_eq!(theirs.hostname(), ours.host_str().unwrap(), "{text:?}");
        assert_eq!(theirs.protocol(), format!("{}:", ours.scheme()), "{text:?}");
        let port = ours.port().map(|port| port.to_string()).unwrap_or_default();
        assert_eq!((theirs.port(), theirs.username(), theirs.password()), (port.as_str(), "", ""), "{text:?}");
    }
    true
}

#[test]
fn e19_two_parsers_see_the_same_host_in_every_link_of_the_standards_tests() {
    let inputs = whatwg_inputs();
    let mut accepted = 0;
    for input in &inputs {
        accepted += usize::from(agree(input));
        // The same as somebody would write it for a host of ours.
        for before in ["https://shop.example", "https://shop.example/", "https:", "https://shop.example:443"] {
            accepted += usize::from(agree(&format!("{before}{input}")));
        }
        accepted += usize::from(agree(&input.replace("http:", "https:").replace("example.org", "shop.example")));
    }
    println!("{accepted} links accepted of {} inputs", inputs.len());
    assert!(accepted > inputs.len(), "{accepted} accepted links are too few to compare");
}

#[test]
fn e19_two_parsers_see_the_same_host_in_links_put_together_by_chance() {
    const PARTS: [&str; 40] = [
        "https:",
        "http:",
        "/",
        "//",
        "///",
        "shop.example",
        "SHOP.example",
        "evil.example",
        "@",
        ":",
        ":443",
        ":80",
        ":8443",
        "?",
        "#",
        ".",
        "..",
        "%2e",
        "%2F",
        "%40",
        "%5c",
        "%00",
        "ｓｈｏｐ",
        "。",
        "\u{ad}",
        "xn--",
        "xn--9caa",
        "é",
        "ß",
        "\u{200d}",
        "127.0.0.1",
        "0x7f.1",
        "[::1]",
        "[",
        "]",
        " ",
        "|",
        "^",
        "user:pass",
        "*",
    ];
    let seed = std::env::var("AFFLUX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("AFFLUX_SEED={seed}");
    let mut state = seed | 1;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % bound
    };
    let mut accepted = 0;
    for _ in 0..200_000 {
        // Most begin as an author of links would.
        let mut link = if below(4) > 0 { "https://".to_owned() } else { String::new() };
        for _ in 0..=below(6) {
            link.push_str(PARTS[below(PARTS.len())]);
        }
        accepted += usize::from(agree(&link));
    }
    assert!(accepted > 10_000, "{accepted} accepted links are too few to compare");
}

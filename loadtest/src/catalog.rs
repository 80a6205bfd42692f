//! Catalogs as files: writing the one that was made, reading the one that a running server has.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::commission::Model;
use crate::market::{Link, Links, Market, Merchant, Offer, TOKENS};

/// Writes `catalog.toml` and `links.ndjson`. `edition` is the name of one publisher: another one is another catalog.
pub fn write(market: &Market, directory: &Path, edition: u64) -> std::io::Result<()> {
    let links = directory.join("links.ndjson");
    if !links.exists() {
        write_links(market, &links)?;
    }
    let mut text = String::from("links_file = \"links.ndjson\"\n");
    for (merchant, (_, sha256)) in market.merchants.iter().zip(TOKENS) {
        text += &format!(
            "[[merchants]]\nid = {}\nname = \"Shop {}\"\ncurrency = {:?}\nbearer_tokens_sha256 = [{sha256:?}]\n",
            merchant.id, merchant.id, merchant.currency
        );
    }
    market.offers.iter().for_each(|offer| text += &offer_text(market, offer));
    for (index, id) in market.publishers.iter().enumerate() {
        let name = if index == 0 { format!("Edition {edition}") } else { format!("Publisher {id}") };
        text +=
            &format!("[[publishers]]\nid = {id}\nname = \"{name}\"\nstatus = \"approved\"\ncontract_signed = true\n");
    }
    // At once: a reader finds the old one or the new one.
    let unfinished = directory.join("catalog.toml.new");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(unfinished, directory.join("catalog.toml"))
}

fn offer_text(market: &Market, offer: &Offer) -> String {
    let model = match offer.model {
        Model::LastClick => "last_click",
        Model::FirstClick => "first_click",
        Model::Linear => "linear",
    };
    let percent = |rate: i64| format!("\"{}.{:04}%\"", rate / 10_000, rate % 10_000);
    let rates: Vec<String> = offer
        .rates
        .iter()
        .map(|(category, rate)| format!("{{ category = {category:?}, rate = {} }}", percent(*rate)))
        .collect();
    let (host, merchant) = (&offer.host, market.merchants[offer.merchant].id);
    format!(
        "[[offers]]\nid = {}\nmerchant_id = {merchant}\nname = \"Offer {}\"\nstatus = \"active\"\n\
         landing_url = \"https://{host}/?utm_campaign={{publisher_id}}\"\ndeep_link_hosts = [\"{host}\"]\n\
         click_id_parameter = \"click_id\"\nstand_down = true\n\
         [[offers.terms]]\nfrom = 2026-01-01T00:00:00Z\nwindow_days = 10\nmodel = \"{model}\"\ndefault_rate = {}\nrates = [{}]\n",
        offer.id,
        offer.id,
        percent(offer.default_rate),
        rates.join(", ")
    )
}

fn write_links(market: &Market, path: &Path) -> std::io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let mut code = Vec::new();
    for number in 0..market.links_count() {
        let (offer, publisher) = market.link(number);
        let (offer, publisher_id) = (&market.offers[offer], market.publishers[publisher]);
        code.clear();
        market.write_code(number, &mut code);
        write!(file, "{{\"code\":\"")?;
        file.write_all(&code)?;
        let (id, host) = (offer.id, &offer.host);
        writeln!(
            file,
            "\",\"offer_id\":{id},\"publisher_id\":{publisher_id},\"url\":\"https://{host}/p/{number}?color=black\"}}"
        )?;
    }
    file.flush()
}

/// Of a catalog as operators write it, what a load needs; other keys are none of our business.
#[derive(Deserialize)]
struct File {
    merchants: Vec<FileMerchant>,
    offers: Vec<FileOffer>,
    publishers: Vec<FilePublisher>,
    #[serde(default)]
    links: Vec<FileLink>,
}

#[derive(Deserialize)]
struct FileMerchant {
    id: u32,
    currency: String,
    unit: Option<String>,
}

#[derive(Deserialize)]
struct FileOffer {
    id: u32,
    merchant_id: u32,
    status: String,
    #[serde(default)]
    deep_link_hosts: Vec<String>,
    terms: Vec<FileTerms>,
}

#[derive(Deserialize)]
struct FileTerms {
    from: toml::value::Datetime,
    until: Option<toml::value::Datetime>,
    model: Option<String>,
    default_rate: Option<String>,
    rates: Option<Vec<FileRate>>,
}

#[derive(Deserialize)]
struct FileRate {
    category: String,
    rate: String,
}

#[derive(Deserialize)]
struct FilePublisher {
    id: u32,
    status: String,
}

#[derive(Deserialize)]
struct FileLink {
    code: String,
    offer_id: u32,
    publisher_id: u32,
}

/// `token` is that of the first merchant, who is the only one to report.
pub fn read(path: &Path, token: &str, now: jiff::Timestamp) -> anyhow::Result<Market> {
    let text = std::fs::read_to_string(path).with_context(|| format!("catalog.file: {}", path.display()))?;
    let file: File = toml::from_str(&text).with_context(|| format!("catalog.file: {}", path.display()))?;
    let merchant = file.merchants.first().context("catalog.file: no merchant")?;
    ensure!(
        merchant.unit.as_deref() != Some("toman"),
        "catalog.file: a merchant that counts in toman is not supported"
    );
    let offers = file.offers.iter().filter(|offer| offer.merchant_id == merchant.id && offer.status == "active");
    let offers: Vec<Offer> = offers.map(|offer| in_force(offer, now)).collect::<Result<_, _>>()?;
    let approved = file.publishers.iter().filter(|publisher| publisher.status == "approved");
    let publishers: Vec<u32> = approved.map(|publisher| publisher.id).collect();
    let links = file.links.into_iter().filter_map(|link| {
        let offer = offers.iter().position(|offer| offer.id == link.offer_id)?;
        let publisher = publishers.iter().position(|id| *id == link.publisher_id)?;
        Some(Link { code: link.code, offer, publisher })
    });
    let links: Vec<Link> = links.collect();
    ensure!(
        !links.is_empty(),
        "catalog.file: no link to an active offer of the first merchant by an approved publisher"
    );
    let merchants = vec![Merchant { id: merchant.id, currency: merchant.currency.clone(), token: token.into() }];
    Ok(Market { merchants, offers, publishers, links: Links::Listed(links) })
}

/// What is not said stays as in the terms before; the last entry that is in force holds (M14).
fn in_force(offer: &FileOffer, now: jiff::Timestamp) -> anyhow::Result<Offer> {
    let (mut model, mut default_rate, mut rates) = (None, None, Vec::new());
    let mut found = None;
    for terms in &offer.terms {
        model = terms.model.as_deref().or(model);
        default_rate = terms.default_rate.as_deref().or(default_rate);
        if let Some(own) = &terms.rates {
            let read = |rate: &FileRate| Ok((rate.category.clone(), parts(&rate.rate)?));
            rates = own.iter().map(read).collect::<anyhow::Result<_>>()?;
        }
        let time = |datetime: &toml::value::Datetime| datetime.to_string().parse::<jiff::Timestamp>();
        let holds =
            time(&terms.from)? <= now && terms.until.as_ref().map(time).transpose()?.is_none_or(|end| now < end);
        if holds {
            found = Some((model, default_rate, rates.clone()));
        }
    }
    let (model, default_rate, rates) = found.with_context(|| format!("offer {}: no terms in force", offer.id))?;
    let model = match model {
        Some("last_click") => Model::LastClick,
        Some("first_click") => Model::FirstClick,
        Some("linear") => Model::Linear,
        other => bail!("offer {}: model {other:?} is not one that the load tester can add up", offer.id),
    };
    let host = offer.deep_link_hosts.iter().find(|host| !host.starts_with("*.")).cloned().unwrap_or_default();
    let default_rate = parts(default_rate.with_context(|| format!("offer {}: default_rate", offer.id))?)?;
    Ok(Offer { id: offer.id, merchant: 0, host, model, default_rate, rates })
}

/// `"12.5%"` in parts per million.
fn parts(rate: &str) -> anyhow::Result<i64> {
    let number = rate.strip_suffix('%').with_context(|| format!("{rate}: a fixed rate is not supported"))?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    ensure!(decimals.len() <= 4, "{rate}: more than four decimals");
    Ok(whole.parse::<i64>()? * 10_000 + format!("{decimals:0<4}").parse::<i64>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;

    #[test]
    fn the_demo_catalog_is_read_with_the_terms_of_the_day() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/catalog.toml");
        let on = |day: &str| read(&path, "secret", day.parse().unwrap()).unwrap();
        let market = on("2026-12-01T00:00:00Z");
        assert_eq!(market.publishers, [34]);
        let offer = market.offer(12).unwrap();
        assert_eq!((offer.model, offer.default_rate, offer.host.as_str()), (Model::LastClick, 120_000, "shop.example"));
        assert_eq!(offer.rates[1], ("fashion".to_owned(), 200_000));
        assert!(matches!(&market.links, Links::Listed(links) if links[0].code == "phone"));
        // In the campaign another rate holds, and after it the old one again.
        assert_eq!(on("2026-12-19T00:00:00Z").offers[0].default_rate, 150_000);
        assert_eq!(on("2026-12-25T00:00:00Z").offers[0].default_rate, 120_000);
    }

    #[test]
    fn rates_are_parts_per_million() {
        for (text, expected) in
            [("12%", 120_000), ("0.75%", 7_500), ("3.3333%", 33_333), ("0%", 0), ("100%", 1_000_000)]
        {
            assert_eq!(parts(text).unwrap(), expected);
        }
        assert!(parts("500000").is_err());
    }

    #[test]
    fn a_made_catalog_says_what_the_market_is() {
        let home = std::env::temp_dir().join(format!("afflux-loadtest-catalog-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        let market = Market::made(&scenario::Catalog { links_count: 100, publishers_count: 3, file: None });
        write(&market, &home, 7).unwrap();
        let file: File = toml::from_str(&std::fs::read_to_string(home.join("catalog.toml")).unwrap()).unwrap();
        assert_eq!(file.offers.len(), 4);
        let now = "2026-12-01T00:00:00Z".parse().unwrap();
        for (written, offer) in file.offers.iter().zip(&market.offers) {
            let read = in_force(written, now).unwrap();
            assert_eq!(Offer { merchant: offer.merchant, ..read }, *offer);
        }
        let links = std::fs::read_to_string(home.join("links.ndjson")).unwrap();
        let last: FileLink = serde_json::from_str(links.lines().last().unwrap()).unwrap();
        let (offer, publisher) = market.link(99);
        let expected = ("l99", market.offers[offer].id, market.publishers[publisher]);
        assert_eq!((last.code.as_str(), last.offer_id, last.publisher_id), expected);
        std::fs::remove_dir_all(home).unwrap();
    }
}

//! Contract: filters.

use std::time::Instant;

use rocketmq_thin_proxy::service::{Filter, Message, Receive, ServiceErrorKind};

use crate::backend::Backend;
use crate::client::{Client, TIMEOUT, ids, plain, sorted_ids};

fn tagged(id: &str, tag: &str) -> Message {
    Message { tag: Some(tag.to_owned()), ..plain(id) }
}

fn wanting(client: &Client, tags: &[&str]) -> Receive {
    Receive { filter: Filter::Tags(tags.iter().map(|tag| (*tag).to_owned()).collect()), ..client.request() }
}

async fn red_green_and_none(client: &Client) {
    client.send(vec![tagged("g1", "green"), tagged("r1", "red"), plain("n1"), tagged("r2", "red")]).await;
}

pub(crate) async fn only_matching_tags_are_delivered<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    red_green_and_none(&client).await;
    assert_eq!(sorted_ids(&client.receive(wanting(&client, &["red"])).await), ["r1", "r2"]);
}

pub(crate) async fn filtered_messages_are_consumed<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    red_green_and_none(&client).await;
    client.receive(wanting(&client, &["red"])).await;
    client.expect_nothing().await;
}

pub(crate) async fn many_filtered_messages_do_not_hide_a_matching_one<B: Backend>(backend: B) {
    let client = Client::with_queues(backend.services(), 1).await;
    for _ in 0..50 {
        client.send((0..200).map(|id| tagged(&id.to_string(), "green")).collect()).await;
    }
    client.send(vec![tagged("r1", "red")]).await;
    assert_eq!(sorted_ids(&client.receive(wanting(&client, &["red"])).await), ["r1"]);
    client.expect_nothing().await;
}

pub(crate) async fn a_filter_may_have_several_tags<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    red_green_and_none(&client).await;
    assert_eq!(sorted_ids(&client.receive(wanting(&client, &["red", "green"])).await), ["g1", "r1", "r2"]);
}

pub(crate) async fn an_expression_filters_messages<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    if !client.services.metadata.capabilities().sql_filter {
        return;
    }
    let numbered =
        |id: &str, n: &str| Message { properties: vec![("n".to_owned(), n.to_owned())], ..plain(id) };
    client
        .send(vec![numbered("one", "1"), numbered("two", "2"), numbered("three", "3"), plain("none")])
        .await;
    let filter = |text: &str| Receive { filter: Filter::Sql(text.to_owned()), ..client.request() };
    let error = client.try_receive(filter("n >")).await.expect_err("no expression");
    assert_eq!(error.kind, ServiceErrorKind::IllegalFilter);
    assert_eq!(sorted_ids(&client.receive(filter("n BETWEEN 2 AND 3")).await), ["three", "two"]);
    client.expect_nothing().await;
}

pub(crate) async fn an_expression_is_checked_before_anything_is_received<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    let (messages, capabilities) = (&client.services.messages, client.services.metadata.capabilities());
    let check = async |filter| messages.check_filter(filter, Instant::now() + TIMEOUT).await;
    assert_eq!(check(Filter::All).await, Ok(()));
    assert_eq!(check(Filter::Tags(vec!["a".to_owned()])).await, Ok(()));
    if capabilities.sql_filter {
        assert_eq!(check(Filter::Sql("n > 1 AND city IS NOT NULL".to_owned())).await, Ok(()));
        let error = check(Filter::Sql("n >".to_owned())).await.expect_err("no expression");
        assert_eq!(error.kind, ServiceErrorKind::IllegalFilter);
    }
}

pub(crate) async fn an_expression_searches_strings<B: Backend>(backend: B) {
    let client = Client::new(backend.services());
    if !client.services.metadata.capabilities().sql_filter {
        return;
    }
    let of_city = |id: &str, city: &str| Message {
        properties: vec![("city".to_owned(), city.to_owned())],
        ..plain(id)
    };
    let messages = vec![of_city("u", "Ulm"), of_city("k", "Kulmbach"), of_city("h", "Halle"), plain("none")];
    client.send(messages).await;
    for (number, (filter, expected)) in [
        ("city CONTAINS 'ulm'", vec!["k"]),
        ("city NOT CONTAINS 'ulm'", vec!["h", "u"]),
        ("city STARTSWITH 'Ul' OR city ENDSWITH 'le'", vec!["h", "u"]),
        ("city NOT STARTSWITH 'K' AND city NOT ENDSWITH 'm'", vec!["h"]),
    ]
    .into_iter()
    .enumerate()
    {
        let group = Client {
            services: client.services.clone(),
            topic: client.topic.clone(),
            group: format!("{}-{number}", client.group),
        };
        let mut found = Vec::new();
        while found.len() < expected.len() {
            let request = Receive { filter: Filter::Sql(filter.to_owned()), ..group.request() };
            let deliveries = group.receive(request).await;
            assert!(!deliveries.is_empty(), "{filter}: only {:?}", ids(&found));
            found.extend(deliveries);
        }
        assert_eq!(sorted_ids(&found), expected, "{filter}");
    }
}

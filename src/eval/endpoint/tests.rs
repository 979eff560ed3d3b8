use std::time::Instant;

use super::server::{Say, Server};
use super::*;

fn settings(server: &Server) -> Settings {
    let patience =
        Patience { tries: 3, first_wait: Duration::from_millis(10), longest_wait: Duration::from_secs(2) };
    Settings { patience, timeout: Duration::from_secs(5), ..Settings::new(&server.url, "judge") }
}

fn asks(n: usize) -> Vec<ChatRequest> {
    let ask = |idx| ChatRequest {
        messages: vec![("user", format!("question {idx}")).into()],
        max_tokens: 7,
        thinking_tokens: 20,
    };
    (0..n).map(ask).collect()
}

/// What one question comes to when the server says `script`, and how often it was asked.
fn one(script: &[Say]) -> (Result<Answer, EndpointError>, usize) {
    let server = Server::start(script.to_vec(), Duration::ZERO);
    let answer = Endpoint::new(settings(&server)).unwrap().ask(&asks(1)[0]);
    (answer, server.log().len())
}

#[test]
fn the_request_is_greedy_and_carries_the_key_of_the_variable() {
    let server = Server::start([], Duration::ZERO);
    // A variable that cargo sets for every test.
    let key_variable = Some("CARGO_PKG_NAME".to_owned());
    let endpoint = Endpoint::new(Settings { key_variable, ..settings(&server) }).unwrap();
    let answer = endpoint.ask(&asks(1)[0]).unwrap();
    assert_eq!((answer.text.as_str(), answer.model.as_deref()), ("question 0", Some("m-1")));
    let (head, body) = server.log().remove(0);
    assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer finetune\r\n"), "{head}");
    let want = serde_json::json!({"model": "judge", "messages": [{"role": "user", "content": "question 0"}],
        "temperature": 0, "max_tokens": 7, "stream": false});
    assert_eq!(body, want);
    assert!(!format!("{endpoint:?}").contains("finetune\""));
}

#[test]
fn a_variable_without_a_key_is_found_before_anything_is_asked() {
    let key_variable = Some("FINETUNE_TEST_NO_SUCH_KEY".to_owned());
    let settings = Settings { key_variable, ..Settings::new("http://localhost:1/v1", "judge") };
    let error = Endpoint::new(settings).unwrap_err();
    assert!(
        matches!(&error, EndpointError::NoKey { variable, .. } if variable == "FINETUNE_TEST_NO_SUCH_KEY")
    );
    for url in ["", "localhost:8000/v1", "ftp://a/v1", "http://", "https:// a/v1"] {
        let error = Endpoint::new(Settings::new(url, "judge")).unwrap_err();
        assert!(matches!(error, EndpointError::BadUrl { .. }), "{url}");
    }
}

#[test]
fn too_many_requests_faults_and_hang_ups_pass() {
    for failure in [
        Say::status(429),
        Say::status(500),
        Say { body: "<html>".to_owned(), ..Say::status(503) },
        Say { hang_up: true, ..Say::status(200) },
        Say { body: "{\"choices\": [".to_owned(), ..Say::status(200) },
    ] {
        let (answer, n) = one(&[failure]);
        assert_eq!((answer.unwrap().text.as_str(), n), ("question 0", 2));
    }
}

#[test]
fn an_endpoint_that_asks_for_a_wait_gets_it() {
    let start = Instant::now();
    let (answer, n) = one(&[Say { headers: "Retry-After: 1\r\n", ..Say::status(429) }]);
    assert!(answer.is_ok() && n == 2 && start.elapsed() >= Duration::from_secs(1));
    let (answer, n) = one(&[Say { headers: "Retry-After: 3600\r\n", ..Say::status(429) }]);
    assert!(matches!(answer, Err(EndpointError::Busy { status: 429, tries: 1, .. })));
    assert_eq!(n, 1);
}

#[test]
fn what_lasts_is_an_error_of_its_own_kind() {
    let (answer, n) = one(&[Say::status(500), Say::status(502), Say::status(503), Say::status(200)]);
    let error = answer.unwrap_err();
    assert!(matches!(error, EndpointError::Busy { status: 503, tries: 3, .. }), "{error}");
    assert_eq!(n, 3);
    let garbage = Say { body: "<html>log in</html>".to_owned(), ..Say::status(200) };
    let (answer, n) = one(&[garbage.clone(), garbage.clone(), garbage]);
    assert!(matches!(answer, Err(EndpointError::BadAnswer { .. })));
    assert_eq!(n, 2);
}

#[test]
fn what_no_patience_mends_is_asked_once() {
    let quota = r#"{"error": {"message": "no money", "code": "insufficient_quota"}}"#;
    for (say, want) in [
        (Say::status(401), "answers 401 without a key: said 401"),
        (Say::status(404), "answers 404 for model `judge`: said 404"),
        (Say::status(400), "refuses to answer with 400: said 400"),
        (Say::status(302), "refuses to answer with 302: said 302"),
        (Say { body: quota.to_owned(), ..Say::status(429) }, "refuses to answer with 429: no money"),
    ] {
        let (answer, n) = one(&[say]);
        let error = answer.unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
        assert_eq!(n, 1);
    }
}

#[test]
fn nobody_at_the_address_is_unreachable() {
    let settings =
        Settings { url: "http://127.0.0.1:1".to_owned(), ..settings(&Server::start([], Duration::ZERO)) };
    let error = Endpoint::new(settings).unwrap().ask(&asks(1)[0]).unwrap_err();
    assert!(matches!(error, EndpointError::Unreachable { .. }), "{error}");
}

#[test]
fn a_slow_answer_is_given_up_and_asked_again() {
    let slow = Say { after: Duration::from_secs(2), ..Say::text("late") };
    let server = Server::start([slow], Duration::ZERO);
    let settings = Settings { timeout: Duration::from_millis(300), ..settings(&server) };
    assert_eq!(Endpoint::new(settings).unwrap().ask(&asks(1)[0]).unwrap().text, "question 0");
}

#[test]
fn a_question_that_is_too_long_or_filtered_is_an_answer() {
    let body = r#"{"error": {"message": "maximum context length is 5 tokens", "code": 400}}"#.to_owned();
    let (answer, n) = one(&[Say { body, ..Say::status(400) }]);
    assert_eq!((answer.unwrap().ended, n), (FinishReason::TooLong, 1));
    let body = r#"{"error": {"message": "no", "code": "content_filter"}}"#.to_owned();
    assert_eq!(one(&[Say { body, ..Say::status(400) }]).0.unwrap().ended, FinishReason::Filtered);
}

#[test]
fn answers_come_in_order_and_no_more_are_under_way_than_allowed() {
    let slow = Say { after: Duration::from_millis(200), ..Say::text("slow") };
    let server = Server::start([slow], Duration::from_millis(10));
    let endpoint = Endpoint::new(Settings { n_at_once: 3, ..settings(&server) }).unwrap();
    let mut came = Vec::new();
    let answers = endpoint.ask_all(
        &asks(20),
        || Ok(()),
        |idx, answer| {
            came.push((idx, answer.text.clone()));
            Ok::<_, EndpointError>(())
        },
    );
    let texts: Vec<_> = answers.unwrap().into_iter().map(|answer| answer.text).collect();
    assert!(texts.iter().enumerate().all(|(idx, text)| text == "slow" || *text == format!("question {idx}")));
    assert_eq!(server.most(), 3);
    assert_ne!(came[0].1, "slow");
    came.sort();
    assert!(came.into_iter().map(|(_, text)| text).eq(texts));
}

#[test]
fn a_failure_stops_the_rest_and_keeps_what_came() {
    let server = Server::start([Say::text("kept"), Say::status(401)], Duration::ZERO);
    let endpoint = Endpoint::new(Settings { n_at_once: 1, ..settings(&server) }).unwrap();
    let mut kept = Vec::new();
    let error = endpoint.ask_all(
        &asks(10),
        || Ok(()),
        |idx, answer| {
            kept.push((idx, answer.text.clone()));
            Ok::<_, EndpointError>(())
        },
    );
    assert!(matches!(error, Err(EndpointError::Unauthorized { status: 401, .. })));
    assert_eq!((kept, server.log().len()), (vec![(0, "kept".to_owned())], 2));
}

#[test]
fn a_callback_that_fails_ends_the_asking() {
    #[derive(Debug)]
    enum Stop {
        Full,
        Endpoint,
    }
    impl From<EndpointError> for Stop {
        fn from(_: EndpointError) -> Self {
            Self::Endpoint
        }
    }
    let server = Server::start([], Duration::from_millis(20));
    let endpoint = Endpoint::new(Settings { n_at_once: 1, ..settings(&server) }).unwrap();
    assert!(matches!(endpoint.ask_all(&asks(50), || Ok(()), |_, _| Err(Stop::Full)), Err(Stop::Full)));
    assert!(server.log().len() < 10);
    let endpoint = Endpoint::new(Settings::new("http://127.0.0.1:1", "judge"));
    assert!(
        matches!(endpoint.unwrap().ask_all(&[], || Ok(()), |_, _| Err(Stop::Endpoint)), Ok(answers) if answers.is_empty())
    );
}

#[test]
fn whoever_waits_for_a_busy_endpoint_can_stop() {
    let server = Server::start(vec![Say::status(503); 50], Duration::ZERO);
    let patience = Patience { first_wait: Duration::from_mins(1), ..Patience::default() };
    let endpoint = Endpoint::new(Settings { patience, ..settings(&server) }).unwrap();
    let check = || match server.log().is_empty() {
        true => Ok(()),
        false => Err(EndpointError::BadUrl { url: "stopped".to_owned() }),
    };
    let started = Instant::now();
    let error = endpoint.ask_all(&asks(3), check, |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, EndpointError::BadUrl { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20), "it waited for the endpoint");
}

#[test]
fn no_key_travels_in_the_open() {
    let new = |url: &str| {
        let key_variable = Some("CARGO_PKG_NAME".to_owned());
        Endpoint::new(Settings { key_variable, ..Settings::new(url, "judge") }).map(drop)
    };
    assert!(matches!(new("http://far.example/v1"), Err(EndpointError::OpenKey { .. })));
    for url in
        ["https://far.example/v1", "http://localhost:1/v1", "http://127.0.0.1:1/v1", "http://[::1]:1/v1"]
    {
        assert!(new(url).is_ok(), "{url}");
    }
    assert!(Endpoint::new(Settings::new("http://far.example/v1", "judge")).is_ok(), "without a key");
}

/// The settings of a request's body that are not its question.
fn form(body: &serde_json::Value) -> (Option<u64>, Option<u64>, Option<u64>) {
    let of = |key: &str| body[key].as_u64();
    (of("max_tokens"), of("max_completion_tokens"), of("temperature"))
}

fn refusing(message: &str) -> Say {
    let body = serde_json::json!({ "error": { "message": message, "code": "unsupported_parameter" } });
    Say { body: body.to_string(), ..Say::status(400) }
}

#[test]
fn a_model_that_refuses_limit_and_temperature_is_asked_without_them_from_then_on() {
    let limit = "Unsupported parameter: 'max_tokens' is not supported with this model.";
    let temperature = "Unsupported value: 'temperature' does not support 0 with this model.";
    let server = Server::start([refusing(limit), refusing(temperature)], Duration::ZERO);
    let patience = Patience { tries: 1, ..settings(&server).patience };
    let endpoint = Endpoint::new(Settings { n_at_once: 1, patience, ..settings(&server) }).unwrap();
    let answers = endpoint.ask_all(&asks(3), || Ok(()), |_, _| Ok::<_, EndpointError>(())).unwrap();
    assert_eq!(
        answers.iter().map(|answer| answer.text.as_str()).collect::<Vec<_>>(),
        ["question 0", "question 1", "question 2"]
    );
    let forms: Vec<_> = server.log().iter().map(|(_, body)| form(body)).collect();
    let last = (None, Some(27), None);
    assert_eq!(forms, [(Some(7), None, Some(0)), (None, Some(27), Some(0)), last, last, last]);
    let news = endpoint.news().unwrap();
    assert!(
        news.contains("`judge`") && news.contains("`max_completion_tokens` and without a temperature"),
        "{news}"
    );
    assert_eq!(endpoint.news(), None);
}

#[test]
fn threads_that_are_refused_together_all_ask_again() {
    let limit = "Unsupported parameter: 'max_tokens' is not supported with this model.";
    // All three are under way before the first is refused: what is refused later is asked in the new form.
    let late = Say { after: Duration::from_secs(1), ..refusing(limit) };
    let server = Server::start(vec![late; 3], Duration::ZERO);
    let endpoint = Endpoint::new(Settings { n_at_once: 3, ..settings(&server) }).unwrap();
    let answers = endpoint.ask_all(&asks(9), || Ok(()), |_, _| Ok::<_, EndpointError>(())).unwrap();
    assert!(answers.iter().enumerate().all(|(idx, answer)| answer.text == format!("question {idx}")));
    assert_eq!(server.log().len(), 12);
}

#[test]
fn a_model_that_thinks_as_the_recipe_says_is_asked_so_at_once() {
    let server = Server::start([], Duration::ZERO);
    let endpoint = Endpoint::new(Settings { thinks: true, ..settings(&server) }).unwrap();
    endpoint.ask(&asks(1)[0]).unwrap();
    assert_eq!((form(&server.log()[0].1), endpoint.news()), ((None, Some(27), None), None));
}

#[test]
fn a_setting_that_is_refused_in_every_form_is_an_error() {
    let limit = "Unsupported parameter: 'max_tokens' is not supported; so is 'max_completion_tokens'.";
    let (answer, n) = one(&vec![refusing(limit); 3]);
    assert!(matches!(answer, Err(EndpointError::Refused { status: 400, .. })));
    assert_eq!(n, 2);
}

#[test]
fn an_answer_a_byte_at_a_time_is_given_up_as_slow() {
    let start = Instant::now();
    let drops = Say { trickle: Duration::from_millis(20), ..Say::text("late") };
    let server = Server::start(vec![drops; 3], Duration::ZERO);
    let timeout = Duration::from_millis(300);
    let patience = Patience { tries: 8, ..settings(&server).patience };
    let endpoint = Endpoint::new(Settings { timeout, patience, ..settings(&server) }).unwrap();
    let error = endpoint.ask(&asks(1)[0]).unwrap_err();
    assert!(matches!(error, EndpointError::Slow { tries: 3, .. }), "{error}");
    assert!(error.to_string().ends_with("gives no whole answer within 0.3 s, 3 times"), "{error}");
    assert!(server.log().len() == 3 && start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    // Blanks before an answer keep a connection open while a model thinks.
    let blanks = Say::text("late");
    let body = format!("{}{}", " ".repeat(20), blanks.body);
    let thinks = Say { body, trickle: Duration::from_millis(2), ..blanks };
    assert_eq!(one(&[thinks]).0.unwrap().text, "late");
}

#[test]
fn more_than_an_answer_is_not_read() {
    let endless = Say { body: " ".repeat(17_000_000), ..Say::status(200) };
    let (answer, n) = one(&vec![endless; 3]);
    let error = answer.unwrap_err();
    assert!(matches!(&error, EndpointError::TooMuch { most, .. } if most == "16 MB") && n == 2, "{error}");
    let headers: &str = Box::leak(format!("X-A: {}\r\n", "a".repeat(1 << 17)).into_boxed_str());
    let (answer, n) = one(&vec![Say { headers, ..Say::text("a") }; 3]);
    let error = answer.unwrap_err();
    assert!(
        error.to_string().ends_with("answers with more than 65536 bytes of headers") && n == 2,
        "{error}"
    );
}

#[test]
fn a_reply_of_megabytes_is_cut_and_said_once() {
    let server = Server::start([Say::text(&"safe ".repeat(3_000_000)), Say::text("safe")], Duration::ZERO);
    let endpoint = Endpoint::new(Settings { n_at_once: 1, ..settings(&server) }).unwrap();
    let answers = endpoint.ask_all(&asks(2), || Ok(()), |_, _| Ok::<_, EndpointError>(())).unwrap();
    let found: Vec<_> = answers.iter().map(|answer| (answer.text.len(), answer.ended)).collect();
    assert_eq!(found, [(MOST_REPLY, FinishReason::Length), (4, FinishReason::Stop)]);
    let news = endpoint.news().unwrap();
    assert!(news.ends_with(
        "gave 1 replies of more than 262144 bytes: what is behind them is neither read nor stored"
    ));
    assert_eq!(endpoint.news(), None);
}

#[test]
fn an_answer_that_ends_too_early_or_elsewhere_is_told_as_it_is() {
    let (answer, n) = one(&vec![Say { missing: 50, ..Say::text("a") }; 3]);
    let error = answer.unwrap_err();
    assert!(matches!(error, EndpointError::BrokeOff { .. }) && n == 3, "{error}");
    let (answer, n) = one(&[Say { headers: "Location: https://log.in/?next=x\r\n", ..Say::status(302) }]);
    let error = answer.unwrap_err();
    let said = "redirects to `https://log.in/?next=x` with 302, and questions are not sent on";
    assert!(error.to_string().ends_with(said) && n == 1, "{error}");
}

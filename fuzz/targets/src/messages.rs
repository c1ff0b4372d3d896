//! Command sets: frame, typed requests and responses, and their encoders.

use pyserver_proto::dimse::{CommandResponse, CommandSet};
use pyserver_proto::status::Status;

/// A command set: what it parses to is written and read as the same again, and every fault of an answerable
/// one has an answer.
pub fn command(data: &[u8]) {
    let Ok(command) = CommandSet::decode(data) else {
        return;
    };
    assert_eq!(command.as_bytes(), data);
    let bytes: usize = command.elements().map(|(_, value)| 8 + value.len()).sum();
    assert_eq!(bytes, data.len(), "elements leave bytes out");
    assert!(!format!("{command:?}").is_empty());
    if let Some(response) = command.parse_response() {
        let again = decode(&response.to_bytes());
        let again = again.and_then(|set| set.parse_response());
        assert_eq!(again, Some(response), "a response changed");
    }
    match command.parse() {
        Ok(request) => {
            let again = decode(&request.to_bytes()).map(|set| set.parse());
            assert_eq!(again, Some(Ok(request.clone())), "a request changed");
            let response = CommandResponse::to(&request, Status::SUCCESS);
            assert!(decode(&response.to_bytes()).is_some());
        }
        Err(error) if command.unanswerable().is_none() && !command.is_response() => {
            let Some(response) = error.response(&command) else {
                panic!("{error} has no answer");
            };
            let response = decode(&response.to_bytes()).and_then(|set| set.parse_response());
            assert!(response.is_some_and(|r| r.status == error.status()));
        }
        Err(_) => {}
    }
}

fn decode(bytes: &[u8]) -> Option<CommandSet> {
    CommandSet::decode(bytes).ok()
}

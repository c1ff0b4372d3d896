//! Who talks to whom, and when: listener, associations, service class providers and users.

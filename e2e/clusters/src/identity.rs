//! Who speaks to an API server.

/// Somebody with a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(crate) name: String,
    pub(crate) group: Option<String>,
    pub(crate) expired: bool,
}

impl User {
    /// A user who may do nothing until a role is bound to the name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            group: None,
            expired: false,
        }
    }

    /// Somebody who may do everything.
    #[must_use]
    pub fn admin() -> Self {
        Self::named("admin").in_group("system:masters")
    }

    /// The same user as a member of this group, and of no other.
    #[must_use]
    pub fn in_group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// The same user with a certificate that has expired: the API server answers 401.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.expired = true;
        self
    }
}

/// What a request is authenticated by.
#[derive(Clone, Debug)]
pub enum Identity {
    /// A client certificate, which is issued for each kubeconfig anew.
    User(User),
    /// A bearer token, such as [`crate::Cluster::service_account`] gets.
    Token(String),
}

impl From<User> for Identity {
    fn from(user: User) -> Self {
        Self::User(user)
    }
}

//! Who someone is: passwords, tokens, sessions' access tokens, roles.
//!
//! Nothing here knows an account or a table; services bring both together. What is
//! secret here has no `Debug`, no `Display` and no `Serialize`, and is wiped from
//! memory when dropped.
//!
//! | room | what it is for |
//! |---|---|
//! | [`password`] | what may be a password, and hashing it off the async threads |
//! | [`token`] | opaque tokens: API, invite and enrolment |
//! | [`jwt`] | access tokens of signed-in accounts |
//! | [`role`] | what an account may do |
//! | [`policy`] | the one table of who may do what |
//! | [`cookie`] | values that a browser keeps, and cannot change |
//! | [`oauth`] | signing in by another's word: GitHub's |
//! | [`caller`] | who is calling, and what that one may |

pub mod caller;
pub mod cookie;
pub mod jwt;
mod jwt_ring;
pub mod oauth;
pub mod password;
pub mod policy;
pub mod role;
pub mod token;

//! Tests of a node.

//! An index whose items are whole where they would be cut now, as earlier versions wrote them.

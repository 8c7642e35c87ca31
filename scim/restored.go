package scim

import "github.com/roster-id/roster/storage"

// Restorable reports whether an item of a backup belongs into the store that is made of
// it. The key of cursors does not: a new one is made, and so no cursor of before leads on.
func Restorable(i *storage.Item) bool { return i.Kind != cursorKeyKind }

package schemas

import "strings"

// IsMessage reports whether schemas, as a decoded body has them, are those of the message
// with this URI (RFC 7644 §3.1). In Lenient mode there need be none: what else could a
// message be that came here. And the name at the end of the URI, as in ":PatchOp", may be
// behind another family's, which drafts and those who write from memory have; but other
// schemas mean another message.
func IsMessage(schemas any, uri string, mode Mode) bool {
	name := uri[strings.LastIndexByte(uri, ':'):]
	is := func(s string) bool {
		return strings.EqualFold(s, uri) || mode == Lenient && strings.EqualFold(s[max(0, len(s)-len(name)):], name)
	}
	switch schemas := schemas.(type) {
	case nil:
		return mode == Lenient
	case string:
		return mode == Lenient && is(schemas)
	case []any:
		for _, e := range schemas {
			if s, ok := e.(string); ok && is(s) {
				return true
			}
		}
		return len(schemas) == 0 && mode == Lenient
	}
	return false
}

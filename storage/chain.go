package storage

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"strings"
)

// The audit trail of a tenant consists of chains. Each entry has the hash of the
// entry before it in its chain worked into its own, so that whoever edits, removes
// or inserts one has to make all that follow anew. N counts the entries of a
// chain without a gap.
//
// A chain whose entries are written one after the other, by the only writer there
// is, is in order: its numbers (Seq) follow each other too, and its first entry
// has the hash of whatever entry stands before it in the trail worked in. So
// nothing can be taken out of a trail of such chains but its end. Other chains are
// written side by side, by several processes, each of which may have several; such
// a chain begins with no hash before it, and its entries are numbered later, one
// or the other perhaps in another order.

// NewChain returns the id of a chain that has no entry yet.
func NewChain(inOrder bool) string {
	kind := byte('p') // parallel
	if inOrder {
		kind = 's' // sequential
	}
	return string(kind) + strings.ToLower(rand.Text()[:16])
}

// InOrder reports whether a chain is one of those that are in order.
func InOrder(chain string) bool { return strings.HasPrefix(chain, "s") }

// Sum returns the hash of an entry: the SHA-256 of prev, the hash of the entry
// before it, 32 zeros if there is none, and the canonical form of this one.
func (e *AuditEntry) Sum(prev []byte) []byte {
	var buf [1024]byte
	copy(buf[:sha256.Size], prev)
	sum := sha256.Sum256(e.AppendCanonical(buf[:sha256.Size]))
	return sum[:]
}

// canonicalVersion says how the canonical form is made. A form that is made in
// another way has another number.
const canonicalVersion = 1

// AppendCanonical appends the canonical form of an entry: everything except Seq,
// which may be given later, and Hash. Different entries have different forms. (No
// time and the beginning of 1970 are no different times.)
func (e *AuditEntry) AppendCanonical(dst []byte) []byte {
	at := int64(0)
	if !e.At.IsZero() {
		at = e.At.UnixMilli()
	}
	dst = append(dst, canonicalVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(at))
	dst = appendText(dst, e.RequestID)
	dst = appendText(dst, e.Actor)
	dst = appendText(dst, e.Action)
	dst = appendText(dst, e.Type)
	dst = appendText(dst, e.ID)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Version))
	dst = binary.AppendUvarint(dst, uint64(len(e.Attributes)))
	for _, a := range e.Attributes {
		dst = appendText(dst, a)
	}
	dst = appendText(dst, e.From)
	dst = appendText(dst, e.Level)
	dst = AppendChanges(dst, e.Changes)
	dst = appendText(dst, e.Chain)
	return binary.BigEndian.AppendUint64(dst, uint64(e.N))
}

// appendText appends a text behind its length, so that none runs into the next.
func appendText[T string | []byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// AppendChanges appends the form that changes have in the canonical form of an
// entry, in which a store may keep them, too.
func AppendChanges(dst []byte, list []Change) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, c := range list {
		dst = appendText(dst, c.Path)
		dst = appendText(dst, c.Before)
		dst = appendText(dst, c.After)
	}
	return dst
}

// ParseChanges reads what AppendChanges wrote. Anything else, by however little,
// becomes a change without a path, which no entry ever had: whoever checks the
// chain is to notice.
func ParseChanges(b []byte) []Change {
	n, rest, ok := length(b)
	list := make([]Change, 0, min(n, uint64(len(b))/3))
	for range n {
		var c Change
		var path []byte
		if path, rest, ok = cutText(rest, ok); !ok {
			break
		}
		c.Path = string(path)
		c.Before, rest, ok = cutText(rest, ok)
		c.After, rest, ok = cutText(rest, ok)
		list = append(list, c)
	}
	if !ok || len(rest) > 0 || n == 0 {
		return []Change{{}}
	}
	return list
}

// length reads a length in its shortest form.
func length(b []byte) (n uint64, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || size > 1 && b[size-1] == 0 {
		return 0, nil, false
	}
	return n, b[size:], true
}

// cutText cuts a text from the beginning of b, which it shares; nil if it is empty.
func cutText(b []byte, ok bool) (text, rest []byte, is bool) {
	if !ok {
		return nil, nil, false
	}
	n, rest, ok := length(b)
	if !ok || n > uint64(len(rest)) {
		return nil, nil, false
	}
	if n == 0 {
		return nil, rest, true
	}
	return rest[:n:n], rest[n:], true
}

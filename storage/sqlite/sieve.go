package sqlite

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"zombiezen.com/go/sqlite"
)

// sieve says of most unique keys that nobody has that this is so, which otherwise takes a
// look into memory and into the table unique_key for each new resource. It is a Bloom filter
// for each part of the keys, and never says so of a key that is there: every key that
// comes into memory or the table is added, and none is ever taken out. A part is read in when as many
// looks have been taken as reading it costs, so that starting costs nothing, and anew
// when it is full. Only the writer uses it.
type sieve struct {
	parts [keyParts]sievePart
	due   []byte // parts to be read in
}

type sievePart struct {
	bits  []uint64 // nil when not read in; a power of two of them
	room  int      // for how many more keys
	looks int      // into the table while it was not read in
}

const (
	sieveBits   = 16 // for each key there is room for; with four probes one key in 400 is taken for one that is there
	sieveProbes = 4
	// readsPerLook is how many keys are read in the time of a look into the table.
	readsPerLook = 16
)

// absent reports whether certainly nobody has a key, or has given it away in this transaction.
func (s *sieve) absent(u uniqueKey) bool {
	p := &s.parts[u.part()]
	if p.bits == nil {
		return false
	}
	for at := range sieveProbes {
		if word, bit := p.probe(u, at); p.bits[word]&bit == 0 {
			return true
		}
	}
	return false
}

// add is for every key that comes into memory or the table. A part that is full is forgotten.
func (s *sieve) add(u uniqueKey) {
	p := &s.parts[u.part()]
	switch {
	case p.bits == nil:
	case p.room == 0:
		*p = sievePart{}
	default:
		p.room--
		p.set(u)
	}
}

// looked notes a look into the table. Rows up to merged have their keys of that part in
// the table.
func (s *sieve) looked(u uniqueKey, merged int64) {
	p := &s.parts[u.part()]
	if p.bits != nil {
		return
	}
	if p.looks++; int64(p.looks) >= merged/(keyParts*readsPerLook) && !slices.Contains(s.due, u[0]) {
		s.due = append(s.due, u[0])
	}
}

// readIn reads the parts in for which it is time. The transaction must not have deleted a
// key: it comes back when the transaction fails, and would be taken for absent.
func (s *sieve) readIn(c *sqlite.Conn, recent *recent) error {
	for _, part := range s.due {
		if err := s.parts[part].read(c, part, recent.parts[part].unique); err != nil {
			return err
		}
	}
	s.due = s.due[:0]
	return nil
}

func (p *sievePart) read(c *sqlite.Conn, part byte, recent []uniqueRow) error {
	var keys []uniqueKey
	for _, r := range recent {
		keys = append(keys, r.key)
	}
	end := make([]byte, len(uniqueKey{})+1) // beyond every key of the part
	for i := range end {
		end[i] = 0xff
	}
	end[0] = part
	err := query(c, `SELECT h FROM unique_key WHERE h >= ? AND h < ?`, func(st *sqlite.Stmt) error {
		var u uniqueKey
		st.ColumnBytes(0, u[:])
		keys = append(keys, u)
		return nil
	}, []byte{part}, end)
	if err != nil {
		return err
	}
	room := 2 * max(len(keys), 64)
	p.bits = make([]uint64, 1<<bits.Len(uint(room*sieveBits/64-1)))
	p.room, p.looks = room-len(keys), 0
	for _, u := range keys {
		p.set(u)
	}
	return nil
}

func (p *sievePart) set(u uniqueKey) {
	for at := range sieveProbes {
		word, bit := p.probe(u, at)
		p.bits[word] |= bit
	}
}

// probe returns where one of the bits of a key is. A key is a hash itself.
func (p *sievePart) probe(u uniqueKey, at int) (word int, bit uint64) {
	a, b := binary.LittleEndian.Uint32(u[4:]), binary.LittleEndian.Uint32(u[8:])|1
	i := a + uint32(at)*b //nolint:gosec // bits
	return int(i>>6) & (len(p.bits) - 1), 1 << (i & 63)
}

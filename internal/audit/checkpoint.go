package audit

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/roster-id/roster/storage"
)

// Checkpoint says how far the trail of a tenant had come, and is signed. Whoever
// keeps it where nobody who can write to the store can reach it finds out when the
// trail before it is changed afterwards, its end included.
type Checkpoint struct {
	Version int              `json:"checkpoint"` // of this form: 1
	Tenant  storage.TenantID `json:"tenant"`
	At      time.Time        `json:"at"`
	Seq     int64            `json:"seq"`   // the number of the last entry
	Count   int64            `json:"count"` // of the entries up to there
	// Heads are the last entries of chains: of all that have moved since the
	// checkpoint before, and of others.
	Heads     []Head `json:"heads"`
	Key       []byte `json:"key"` // the public key
	Signature []byte `json:"signature"`
}

// Head is the last entry of a chain.
type Head struct {
	Chain string `json:"chain"`
	N     int64  `json:"n"`
	Hash  Sum    `json:"hash"`
}

// Sum is a hash, in JSON in hexadecimal.
type Sum []byte

// MarshalText implements encoding.TextMarshaler.
func (s Sum) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Sum) UnmarshalText(b []byte) (err error) {
	*s, err = hex.AppendDecode(nil, b)
	return err
}

const checkpointVersion = 1

// signed returns what is signed: all but the key and the signature.
func (c *Checkpoint) signed() []byte {
	text := func(b []byte, s string) []byte {
		return append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b := text(nil, "roster audit checkpoint")
	b = binary.BigEndian.AppendUint64(b, uint64(c.Version))
	b = text(b, string(c.Tenant))
	b = binary.BigEndian.AppendUint64(b, uint64(c.At.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Seq))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Count))
	b = binary.AppendUvarint(b, uint64(len(c.Heads)))
	for _, h := range c.Heads {
		b = text(b, h.Chain)
		b = binary.BigEndian.AppendUint64(b, uint64(h.N))
		b = text(b, string(h.Hash))
	}
	return b
}

// Sign signs the checkpoint.
func (c *Checkpoint) Sign(key ed25519.PrivateKey) {
	c.Version = checkpointVersion
	c.Key = key.Public().(ed25519.PublicKey)
	c.Signature = ed25519.Sign(key, c.signed())
}

// ErrForged is returned for a checkpoint that was not signed with one of the keys
// that are trusted, or was changed afterwards.
var ErrForged = errors.New("a checkpoint is not signed by a trusted key")

// Authenticate checks the signature against keys that are trusted. Without any it
// checks against the key in the checkpoint itself, which tells changes by accident
// only.
func (c *Checkpoint) Authenticate(trusted ...ed25519.PublicKey) error {
	known := len(trusted) == 0
	for _, k := range trusted {
		known = known || bytes.Equal(k, c.Key)
	}
	if !known || c.Version != checkpointVersion || len(c.Key) != ed25519.PublicKeySize || !ed25519.Verify(c.Key, c.signed(), c.Signature) {
		return ErrForged
	}
	return nil
}

// ParseKey reads a public key as roster writes it: base64.
func ParseKey(s string) (ed25519.PublicKey, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("expected a public key: %d bytes in base64", ed25519.PublicKeySize)
	}
	return b, nil
}

// KeyText writes a public key the way ParseKey reads it.
func KeyText(k ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(k) }

// maxLine bounds a line of a file of checkpoints.
const maxLine = 1 << 20

// ReadCheckpoints reads a file of checkpoints, one to a line, and returns those of
// a tenant. It fails when any line is not a checkpoint, or is not signed by a
// trusted key. A line that is cut off is none if the next begins with it, as it was
// written again, or if nothing follows.
func ReadCheckpoints(r io.Reader, tenant storage.TenantID, trusted ...ed25519.PublicKey) ([]Checkpoint, error) {
	var list []Checkpoint
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	ended := true // the last line has an end
	s.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		n, line, err := bufio.ScanLines(data, atEOF)
		if n > 0 {
			ended = data[n-1] == '\n'
		}
		return n, line, err
	})
	var part []byte // of the line before
	line := 0
	for ; s.Scan(); line++ {
		text := s.Bytes()
		c, err := parseCheckpoint(text)
		switch {
		case err != nil && bytes.HasPrefix(part, text): // nor did that come to its end
		case err != nil && bytes.HasPrefix(text, part):
			part = bytes.Clone(text)
		case !bytes.HasPrefix(text, part):
			return nil, fmt.Errorf("line %d: %w", line, errNoCheckpoint)
		default:
			if err := c.Authenticate(trusted...); err != nil {
				return nil, fmt.Errorf("line %d: %w", line+1, err)
			}
			if part = nil; c.Tenant == tenant {
				list = append(list, c)
			}
		}
	}
	if part != nil && ended && s.Err() == nil {
		return nil, fmt.Errorf("line %d: %w", line, errNoCheckpoint)
	}
	return list, s.Err()
}

var errNoCheckpoint = errors.New("expected a checkpoint")

func parseCheckpoint(b []byte) (c Checkpoint, err error) {
	if json.Unmarshal(b, &c, json.RejectUnknownMembers(true)) != nil { // its error would quote
		return c, errNoCheckpoint
	}
	return c, nil
}

// line writes a checkpoint.
func (c *Checkpoint) line() ([]byte, error) {
	b, err := json.Marshal(c)
	return append(b, '\n'), err
}

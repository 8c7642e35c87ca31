package mongotest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The wire protocol: OP_MSG for everything, and OP_QUERY for the greeting that
// some clients open a connection with.
const (
	opReply = 1
	opQuery = 2004
	opMsg   = 2013

	flagChecksum   = 1 << 0
	flagMoreToCome = 1 << 1

	sectionBody     = 0
	sectionSequence = 1
)

// message is a command as it arrived.
type message struct {
	id, op    int32
	body      bson.Raw
	sequences map[string][]bson.Raw
	// silent messages want no answer.
	silent bool
}

var errMalformed = errors.New("malformed message")

func readMessage(r io.Reader) (*message, error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := int32(binary.LittleEndian.Uint32(head[:]))
	if size < 16 || size > maxMessageSize {
		return nil, errMalformed
	}
	m := &message{
		id: int32(binary.LittleEndian.Uint32(head[4:])),
		op: int32(binary.LittleEndian.Uint32(head[12:])),
	}
	b := make([]byte, size-16)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if len(b) < 4 {
		return nil, errMalformed
	}
	flags, b := binary.LittleEndian.Uint32(b), b[4:]
	switch m.op {
	case opMsg:
		return m, m.sections(flags, b)
	case opQuery:
		// The collection's name and two numbers come before the document.
		end := bytes.IndexByte(b, 0)
		if end < 0 || len(b) < end+9 {
			return nil, errMalformed
		}
		var err error
		m.body, _, err = cutDocument(b[end+9:])
		return m, err
	}
	return nil, errMalformed
}

func (m *message) sections(flags uint32, b []byte) (err error) {
	m.silent = flags&flagMoreToCome != 0
	if flags&flagChecksum != 0 {
		if len(b) < 4 {
			return errMalformed
		}
		b = b[:len(b)-4]
	}
	for len(b) > 0 {
		kind := b[0]
		switch b = b[1:]; kind {
		case sectionBody:
			m.body, b, err = cutDocument(b)
		case sectionSequence:
			b, err = m.sequence(b)
		default:
			err = errMalformed
		}
		if err != nil {
			return err
		}
	}
	if m.body == nil {
		return errMalformed
	}
	return nil
}

// sequence reads a section of documents and returns what follows.
func (m *message) sequence(b []byte) (rest []byte, err error) {
	if len(b) < 4 {
		return nil, errMalformed
	}
	size := int(binary.LittleEndian.Uint32(b))
	if size < 5 || size > len(b) {
		return nil, errMalformed
	}
	b, rest = b[4:size], b[size:]
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return nil, errMalformed
	}
	name := string(b[:end])
	if m.sequences == nil {
		m.sequences = map[string][]bson.Raw{}
	}
	for b = b[end+1:]; len(b) > 0; {
		var d bson.Raw
		if d, b, err = cutDocument(b); err != nil {
			return nil, err
		}
		m.sequences[name] = append(m.sequences[name], d)
	}
	return rest, nil
}

func cutDocument(b []byte) (d bson.Raw, rest []byte, err error) {
	if len(b) < 5 {
		return nil, nil, errMalformed
	}
	size := int(int32(binary.LittleEndian.Uint32(b)))
	if size < 5 || size > len(b) {
		return nil, nil, errMalformed
	}
	d = bson.Raw(b[:size])
	return d, b[size:], d.Validate()
}

// encodeReply wraps the answer to a message.
func (m *message) encodeReply(doc bson.D) ([]byte, error) {
	raw, err := bson.Marshal(doc)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	b := make([]byte, 4, len(raw)+36)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint32(b, uint32(m.id))
	if m.op == opQuery {
		b = le.AppendUint32(b, opReply)
		b = le.AppendUint32(b, 8) // the server can wait for data
		b = le.AppendUint64(b, 0) // no cursor
		b = le.AppendUint32(b, 0) // from the first document
		b = le.AppendUint32(b, 1) // one document
	} else {
		b = le.AppendUint32(b, opMsg)
		b = le.AppendUint32(b, 0)
		b = append(b, sectionBody)
	}
	b = append(b, raw...)
	le.PutUint32(b, uint32(len(b)))
	return b, nil
}

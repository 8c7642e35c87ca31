package mail

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/roster-id/roster/storage"
)

// Keys seal what a message says. An auth.KeyRing does.
type Keys interface {
	Seal(plain []byte, owner ...string) []byte
	Open(sealed []byte, owner ...string) ([]byte, error)
	// SealedKey is a key of the item with this id that holds what was sealed, by
	// which it is found when keys are rotated.
	SealedKey(sealed []byte, id string) string
	// MeetCanary is called in each write that seals something.
	MeetCanary(tx storage.ItemWriter, tenant storage.TenantID) error
}

// Options are what a Queue consists of.
type Options struct {
	Store    storage.Store
	Keys     Keys
	Sender   Sender // nil if there is no mail
	Language string // of recipients whose own is not known; English if empty
	Now      func() time.Time
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Queue is the mail that waits to be sent, and that which could not be. Make one with
// New. It is safe for concurrent use.
type Queue struct {
	store    storage.Store
	keys     Keys
	sender   Sender
	language string
	now      func() time.Time
	log      *slog.Logger
	metrics  *metrics
	fresh    chan fresh
}

// New returns a queue. Nothing is sent before Run.
func New(o Options) *Queue {
	return &Queue{
		store: o.Store, keys: o.Keys, sender: o.Sender, language: o.Language, now: o.Now, log: o.Log,
		metrics: newMetrics(o.Registry), fresh: make(chan fresh, 1024),
	}
}

// ErrDisabled says that this server sends no mail.
var ErrDisabled = errors.New("mail is not set up on this server")

// Enabled reports whether mail is sent. A nil Queue sends none.
func (q *Queue) Enabled() bool { return q != nil && q.sender != nil }

// kind is that of the items in which messages wait.
const kind = "mail"

// The keys by which items are found.
const (
	waiting = "waiting"
	dead    = "dead"
)

const (
	// keptDead is for how long a message stays that could not be sent.
	keptDead = 30 * 24 * time.Hour
	// keptWaiting is longer than any message waits that is not held up by a server
	// that stands still; after that it vanishes.
	keptWaiting = 7 * 24 * time.Hour
)

// record is the data of an item.
type record struct {
	Kind   Kind      `json:"kind"`
	Queued time.Time `json:"queued"`
	// Until is when the message loses its sense, or zero.
	Until time.Time `json:"until,omitzero"`
	// Due is when it is to be sent, or when the lease of who sends it runs out.
	Due      time.Time `json:"due"`
	Attempts int       `json:"attempts,omitzero"`
	Lease    string    `json:"lease,omitzero"`
	Dead     time.Time `json:"dead,omitzero"`
	// Reason and Code are those of the last attempt.
	Reason Reason `json:"reason,omitzero"`
	Code   int    `json:"code,omitzero"`
	Sealed []byte `json:"sealed,omitzero"` // a payload
}

// payload is what nobody is to read in the store.
type payload struct {
	To       string            `json:"to"`
	Language string            `json:"language,omitzero"`
	Fields   map[string]string `json:"fields"`
}

func owner(tenant storage.TenantID, id string) []string { return []string{string(tenant), kind, id} }

// Put queues a message in the transaction that makes it necessary: it is sent if and
// only if that becomes durable. The error is a *FieldError if the message is not
// what its kind says, and ErrDisabled if there is no mail.
func (q *Queue) Put(tx storage.ItemWriter, tenant storage.TenantID, m Message, now time.Time) error {
	if !q.Enabled() {
		return ErrDisabled
	}
	if _, err := m.Letter(q.language); err != nil {
		return err
	}
	if err := q.keys.MeetCanary(tx, tenant); err != nil {
		return err
	}
	plain, err := json.Marshal(payload{m.To, m.Language, m.Fields}, json.Deterministic(true))
	if err != nil {
		return err
	}
	now, id := storage.Milli(now), storage.NewID()
	r := record{Kind: m.Kind, Queued: now, Until: storage.Milli(m.ends()), Due: now, Sealed: q.keys.Seal(plain, owner(tenant, id)...)}
	if err := q.save(tx, nil, id, r); err != nil {
		return err
	}
	select {
	case q.fresh <- fresh{tenant: tenant, id: id}:
	default: // it is found later
	}
	return nil
}

// save stores a record in the place of prev.
func (q *Queue) save(tx storage.ItemWriter, prev *storage.Item, id string, r record) error {
	next, err := r.item(q.keys, id)
	if err != nil {
		return err
	}
	return tx.PutItem(prev, next)
}

// due reports whether it is time to send, and nobody does.
func (r record) due(now time.Time) bool {
	switch {
	case r.Lease != "":
		return storage.Due(r.Due, now, lease)
	case r.Attempts == 0:
		return storage.Due(r.Due, now, 0)
	}
	return storage.Due(r.Due, now, delays[min(r.Attempts, len(delays))-1])
}

func (r record) item(keys Keys, id string) (*storage.Item, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	i := &storage.Item{Kind: kind, ID: id, Data: data}
	if r.Dead.IsZero() {
		// What becomes worthless is not removed at once, so that somebody can see
		// that it never arrived.
		i.Keys, i.Expires = append(i.Keys, waiting), later(r.Queued.Add(keptWaiting), r.Until).Add(keptDead)
	} else {
		i.Keys, i.Expires = append(i.Keys, dead), r.Dead.Add(keptDead)
	}
	if r.Sealed != nil {
		i.Keys = append(i.Keys, keys.SealedKey(r.Sealed, id))
	}
	return i, nil
}

func readRecord(i *storage.Item) (r record, err error) {
	if err := json.Unmarshal(i.Data, &r); err != nil {
		return r, fmt.Errorf("the message %s is damaged", i.ID)
	}
	return r, nil
}

// message opens what was sealed.
func (q *Queue) message(tenant storage.TenantID, id string, r record) (*Message, error) {
	plain, err := q.keys.Open(r.Sealed, owner(tenant, id)...)
	if err != nil {
		return nil, err
	}
	var p payload
	if err := json.Unmarshal(plain, &p); err != nil {
		return nil, fmt.Errorf("the message %s is damaged", id)
	}
	return &Message{Kind: r.Kind, To: p.To, Language: p.Language, Fields: p.Fields}, nil
}

// Reseal returns an item of the kind that SealedKind names with its secret sealed by
// the newest key.
func Reseal(keys Keys, tenant storage.TenantID, i *storage.Item) (*storage.Item, error) {
	r, err := readRecord(i)
	if err != nil {
		return nil, err
	}
	plain, err := keys.Open(r.Sealed, owner(tenant, i.ID)...)
	if err != nil {
		return nil, err
	}
	r.Sealed = keys.Seal(plain, owner(tenant, i.ID)...)
	return r.item(keys, i.ID)
}

// SealedKind is the kind of items that Reseal is for.
const SealedKind = kind

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

package scim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/roster-id/roster/auth"
	"github.com/roster-id/roster/schemas"
	"github.com/roster-id/roster/storage"
)

// Limits of request bodies. ServiceProviderConfig and the documentation tell them.
const (
	// MaxBody is the size of one body in bytes.
	MaxBody = 1 << 20
	// maxBodies is what all bodies in memory take together, maxClientBodies those
	// of one client, so that no client can keep the others waiting.
	maxBodies       = 64 << 20
	maxClientBodies = 16 << 20
	// maxTrees and maxClientTrees bound the JSON trees of bodies in the same way.
	maxTrees       = 64 << 20
	maxClientTrees = 16 << 20
	smallTrees     = 256 << 10 // so much is not counted
	// bodyStep is what a body takes before its first byte has arrived. Most need
	// no more; what needs more takes it as it comes.
	bodyStep = 8 << 10
	// bodyWait bounds how long a body waits for room: those that hold some and
	// wait for more could wait for each other.
	bodyWait = 5 * time.Second
)

// BodyLimits bound the JSON of a request.
var BodyLimits = schemas.Limits{Depth: 32, Tokens: 100_000}

// bodies is the memory that request bodies take.
type bodies struct {
	all, trees *semaphore.Weighted
	mu         sync.Mutex
	of         map[holder]*clientBodies // those who have any
}

// holder is a client, or whoever else sends bodies.
type holder struct {
	kind auth.Kind
	id   string
}

type clientBodies struct {
	text, trees *semaphore.Weighted
	users       int // requests of the client that are under way
}

func newBodies() *bodies {
	return &bodies{all: semaphore.NewWeighted(maxBodies), trees: semaphore.NewWeighted(maxTrees), of: map[holder]*clientBodies{}}
}

// body is the share of one request.
type body struct {
	*bodies
	holder holder
	own    *clientBodies
	size   int64 // of what is set aside for the text
	tree   int64 // and for its tree
}

func (b *bodies) open(by auth.Principal) *body {
	b.mu.Lock()
	defer b.mu.Unlock()
	who := holder{by.Kind, by.ID}
	own := b.of[who]
	if own == nil {
		own = &clientBodies{text: semaphore.NewWeighted(maxClientBodies), trees: semaphore.NewWeighted(maxClientTrees)}
		b.of[who] = own
	}
	own.users++
	return &body{bodies: b, holder: who, own: own}
}

// take sets n bytes more aside for the text.
func (b *body) take(ctx context.Context, n int64) error {
	err := take(ctx, b.own.text, b.all, n)
	if err == nil {
		b.size += n
	}
	return err
}

// grow sets memory aside for the trees that are made of texts at a time. What is set aside for
// it waits for nothing else, so that bodies do not wait for each other with all their text in
// memory. Small ones need none: how many there are at a time is bounded elsewhere.
func (b *body) grow(ctx context.Context, texts ...[]byte) error {
	n := int64(0)
	for _, text := range texts {
		n += treeOf(text)
	}
	if n <= smallTrees {
		return nil
	}
	n = min(n, maxClientTrees)
	err := take(ctx, b.own.trees, b.trees, n)
	if err == nil {
		b.tree += n
	}
	return err
}

// treeOf is about what the tree of a JSON text takes beside the text: a map for each object, the
// slices and what they grew from for values.
func treeOf(text []byte) int64 {
	return 336*int64(bytes.Count(text, []byte("{"))) + 112*int64(bytes.Count(text, []byte(","))+bytes.Count(text, []byte("[")))
}

// take sets n bytes aside. A client waits for its own before it takes from what is
// everybody's.
func take(ctx context.Context, own, all *semaphore.Weighted, n int64) error {
	if own.TryAcquire(n) {
		if all.TryAcquire(n) {
			return nil
		}
		own.Release(n)
	}
	wait, cancel := context.WithTimeout(ctx, bodyWait)
	defer cancel()
	err := own.Acquire(wait, n)
	if err == nil {
		if err = all.Acquire(wait, n); err != nil {
			own.Release(n)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: too many request bodies", storage.ErrUnavailable)
	}
	return nil
}

// close gives everything back. It may be called twice.
func (b *body) close() {
	if b.own == nil {
		return
	}
	b.own.text.Release(b.size)
	b.all.Release(b.size)
	b.own.trees.Release(b.tree)
	b.trees.Release(b.tree)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.own.users--; b.own.users == 0 {
		delete(b.of, b.holder)
	}
	b.own = nil
}

// read reads a body as it arrives and sets memory aside as it grows. What a
// client announces and does not send takes no room.
func (b *body) read(r *http.Request) ([]byte, error) {
	limit := int64(MaxBody + 1) // one more tells that it is too large
	if r.ContentLength > MaxBody {
		return nil, tooLarge()
	}
	if r.ContentLength >= 0 {
		limit = r.ContentLength
	}
	var raw []byte
	for int64(len(raw)) < limit {
		if len(raw) == cap(raw) {
			size := min(limit, max(bodyStep, 2*int64(cap(raw))))
			if err := b.take(r.Context(), size-b.size); err != nil {
				return nil, err
			}
			grown := make([]byte, len(raw), size)
			copy(grown, raw)
			raw = grown
		}
		n, err := r.Body.Read(raw[len(raw):cap(raw)])
		raw = raw[:len(raw)+n]
		if err == io.EOF && (r.ContentLength < 0 || int64(len(raw)) == limit) {
			break
		}
		if err != nil {
			return nil, unreadable(err)
		}
	}
	if len(raw) > MaxBody {
		return nil, tooLarge()
	}
	return raw, nil
}

// change reads the parameters and the body of a POST, PUT or PATCH and hands the
// body to do, which notes in sent what it names. The memory set aside for the body is
// given back when that is done, and not after the answer, which takes as long as the
// client likes.
func (h *Handler) change(r *http.Request, by auth.Principal, do func(body any, sent *written) (*storage.Resource, error)) (projectionRequest, *storage.Resource, error) {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return projectionRequest{}, nil, err
	}
	p, err := parseProjection(q)
	if err != nil {
		return p, nil, err
	}
	var res *storage.Resource
	err = h.withBody(r, by, func(body any) error {
		res, err = do(body, &p.written)
		return err
	})
	return p, res, err
}

// withBody reads a body and hands it to do. The memory set aside for it is given back
// when that is done.
func (h *Handler) withBody(r *http.Request, by auth.Principal, do func(body any) error) error {
	return h.withRaw(r, by, func(b *body, raw []byte) error {
		if err := b.grow(r.Context(), raw); err != nil {
			return err
		}
		tree, err := schemas.Decode(raw, BodyLimits)
		if err != nil {
			return err
		}
		return do(tree)
	})
}

// withRaw is withBody for a body that do reads itself.
func (h *Handler) withRaw(r *http.Request, by auth.Principal, do func(b *body, raw []byte) error) error {
	form, err := acceptable(r.Header, by)
	if err != nil {
		return err
	}
	b := h.bodies.open(by)
	defer b.close()
	raw, err := b.read(r)
	switch {
	case err != nil:
		return err
	case form && !bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")):
		return errMedia
	}
	err = do(b, raw)
	if err != nil {
		h.sent(r, by, raw)
	}
	return err
}

func unreadable(err error) error {
	if _, told := errors.AsType[*Error](err); told || errors.Is(err, context.Canceled) {
		return err
	}
	return &Error{Status: 400, Type: InvalidSyntax, Detail: "the body could not be read to its end"}
}

func tooLarge() error {
	return &Error{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the body is larger than %d bytes", MaxBody)}
}

var (
	errCoding = &Error{Status: http.StatusUnsupportedMediaType, Detail: "expected a body without Content-Encoding"}
	errMedia  = &Error{Status: http.StatusUnsupportedMediaType, Detail: "expected Content-Type " + mediaSCIM + " or " + mediaJSON}
)

// acceptable checks what a body says of itself. A media type that is not named is
// taken for JSON, and unless the client is strict so is a form, if it has an object in it: that
// is what PowerShell calls a text of which nothing is said (HelloID's connector). Of a browser, which
// sends forms from anywhere, it is not.
func acceptable(h http.Header, by auth.Principal) (form bool, err error) {
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return false, errCoding
	}
	contentType := h.Get("Content-Type")
	if contentType == "" || contentType == mediaSCIM || contentType == mediaJSON {
		return false, nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	form = media == mediaForm && by.Kind == auth.Client && mode(by) == schemas.Lenient
	if err != nil || media != mediaSCIM && media != mediaJSON && !form {
		return false, errMedia
	}
	switch strings.ToLower(params["charset"]) {
	case "", "utf-8", "utf8": // the latter is no name of it, and cannot mean anything else
		return form, nil
	}
	return false, &Error{Status: http.StatusUnsupportedMediaType, Detail: "expected the charset utf-8"}
}

package auth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gofrs/flock"

	"github.com/roster-id/roster/storage"
)

// KeyRing seals what has to be stored and read again, such as TOTP secrets, with
// keys that are kept in a file outside the database.
//
// The file is text. Each line is a version and a key, "v1:" and 32 random bytes in
// base64; empty lines and those that begin with # do not count. The newest version
// seals; the others open what they sealed. A file that was changed is read again
// when something is sealed, or when a version is missing; so keys are added while
// servers run.
//
// It is safe for concurrent use.
type KeyRing struct {
	path string

	mu   sync.Mutex
	read stamp
	keys map[uint32]*key
	last uint32 // the newest version
}

// stamp tells whether a file has changed.
type stamp struct {
	modified time.Time
	size     int64
}

// key is one version, with what is derived from it.
type key struct {
	seal   cipher.AEAD
	signer ed25519.PrivateKey
	events ed25519.PrivateKey
	root   []byte
}

const keySize = 32

// The purposes for which keys are derived from those in the file.
const (
	forSealing = "roster seal"
	forSigning = "roster sign"
	forDecoys  = "roster decoy"
	forEvents  = "roster events"
)

// CreateKeyFile makes a key file with one new key, readable by its owner only. It
// fails if there is such a file (errors.Is fs.ErrExist).
func CreateKeyFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString("# The keys that Roster seals secrets with. Whoever loses this file loses them;\n" +
		"# keep a copy, but not where backups of the database are.\n" + newKeyLine(1))
	if err = errors.Join(err, f.Sync(), f.Close(), syncFolder(path)); err != nil {
		// What is left, of no length on a full disk, would be in the way when there is room.
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// AddKey adds a new version to a key file, and returns it. Several at once take turns.
func AddKey(path string) (version int, err error) {
	// A link goes on leading to the file, which others may read by its own name.
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return 0, err
	}
	// The file itself is replaced, so the lock is on its folder.
	lock := flock.New(filepath.Dir(path), flock.SetFlag(os.O_RDONLY))
	if err := lock.Lock(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	k, err := LoadKeyRing(path)
	if err != nil {
		return 0, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		b = append(b, '\n')
	}
	version = k.Newest() + 1
	// In one step: a server may read the file at any time.
	f, err := os.CreateTemp(filepath.Dir(path), ".keys-*")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(append(b, newKeyLine(version)...))
	if err := errors.Join(err, keepOwner(f, info), f.Chmod(info.Mode().Perm()), f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return 0, err
	}
	return version, syncFolder(path)
}

func newKeyLine(version int) string {
	var b [keySize]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return fmt.Sprintf("v%d:%s\n", version, base64.StdEncoding.EncodeToString(b[:]))
}

func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// LoadKeyRing reads a key file. It refuses one that everybody can read, and one
// that others than its owner can write.
func LoadKeyRing(path string) (*KeyRing, error) {
	k := &KeyRing{path: path}
	if err := k.load(); err != nil {
		return nil, err
	}
	return k, nil
}

// load reads the file. Its errors quote nothing of it.
func (k *KeyRing) load() error {
	info, err := os.Stat(k.path)
	if err != nil {
		return fmt.Errorf("the key file cannot be read: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o027 != 0 {
		return fmt.Errorf("the key file %s has mode %04o: others than its owner could read or change it; chmod 600 it", k.path, mode)
	}
	b, err := os.ReadFile(k.path)
	if err != nil {
		return fmt.Errorf("the key file cannot be read: %w", err)
	}
	keys := map[uint32]*key{}
	s := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; s.Scan(); n++ {
		line := strings.TrimSpace(s.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		wrong := func(what string) error { return fmt.Errorf("the key file %s, line %d: %s", k.path, n, what) }
		name, text, _ := strings.Cut(line, ":")
		version, err := strconv.ParseUint(strings.TrimPrefix(name, "v"), 10, 31)
		if err != nil || version == 0 || name != "v"+strconv.FormatUint(version, 10) {
			return wrong("expected a version and a key, such as v1:…")
		}
		root, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(root) != keySize {
			return wrong(fmt.Sprintf("expected %d bytes in base64 after the version", keySize))
		}
		if keys[uint32(version)] != nil {
			return wrong("the version stands there twice")
		}
		if keys[uint32(version)], err = newKey(root); err != nil {
			return err
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("the key file %s: %w", k.path, err)
	}
	if len(keys) == 0 {
		return fmt.Errorf("the key file %s has no key in it", k.path)
	}
	k.keys, k.last, k.read = keys, slices.Max(slices.Collect(maps.Keys(keys))), stamp{info.ModTime(), info.Size()}
	return nil
}

func newKey(root []byte) (*key, error) {
	k := &key{root: root}
	block, err := aes.NewCipher(k.derive(forSealing))
	if err != nil {
		return nil, err
	}
	if k.seal, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	k.signer = ed25519.NewKeyFromSeed(k.derive(forSigning))
	k.events = ed25519.NewKeyFromSeed(k.derive(forEvents))
	return k, nil
}

func (k *key) derive(purpose string) []byte {
	b, err := hkdf.Key(sha256.New, k.root, nil, purpose, keySize)
	if err != nil {
		panic(err) // only for lengths
	}
	return b
}

// current returns the newest version, as the file has it now. A file that cannot be
// read any more changes nothing.
func (k *KeyRing) current() (uint32, *key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	return k.last, k.keys[k.last]
}

// version returns one version, or nil.
func (k *KeyRing) version(v uint32) *key {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys[v] == nil {
		k.refresh()
	}
	return k.keys[v]
}

func (k *KeyRing) refresh() {
	info, err := os.Stat(k.path)
	if err != nil || (stamp{info.ModTime(), info.Size()}) == k.read {
		return
	}
	next := KeyRing{path: k.path}
	if next.load() == nil && next.keys[k.last] != nil {
		k.keys, k.last, k.read = next.keys, next.last, next.read
	}
}

// Newest returns the version that seals.
func (k *KeyRing) Newest() int {
	v, _ := k.current()
	return int(v)
}

// Derive returns 32 bytes for a purpose, from the newest version.
func (k *KeyRing) Derive(purpose string) []byte {
	_, key := k.current()
	return key.derive(purpose)
}

// Signer returns the key that signs, from the newest version.
func (k *KeyRing) Signer() ed25519.PrivateKey {
	_, key := k.current()
	return key.signer
}

// PublicKeys returns the keys that check what any version has signed, the newest
// first.
func (k *KeyRing) PublicKeys() []ed25519.PublicKey {
	return k.public(func(key *key) ed25519.PrivateKey { return key.signer })
}

// EventSigner returns the key that signs security event tokens, from the newest
// version. It signs nothing else.
func (k *KeyRing) EventSigner() ed25519.PrivateKey {
	_, key := k.current()
	return key.events
}

// EventKeys is PublicKeys for EventSigner.
func (k *KeyRing) EventKeys() []ed25519.PublicKey {
	return k.public(func(key *key) ed25519.PrivateKey { return key.events })
}

func (k *KeyRing) public(of func(*key) ed25519.PrivateKey) (list []ed25519.PublicKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refresh()
	for _, v := range slices.Backward(slices.Sorted(maps.Keys(k.keys))) {
		list = append(list, of(k.keys[v]).Public().(ed25519.PublicKey))
	}
	return list
}

// MissingKeyError says that something was sealed with a version that the key file
// does not have.
type MissingKeyError struct{ Version int }

func (e *MissingKeyError) Error() string {
	return fmt.Sprintf("the key file has no key v%d, with which this was sealed", e.Version)
}

// ErrSealed says: what was sealed cannot be opened. It is not whole, it belongs to
// another owner, or the key is another one of the same version.
var ErrSealed = errors.New("what was sealed cannot be opened")

const versionSize = 4

// Seal encrypts and authenticates plain with the newest key. Only who names the same
// owner opens it.
func (k *KeyRing) Seal(plain []byte, owner ...string) []byte {
	v, key := k.current()
	out := binary.BigEndian.AppendUint32(nil, v)
	nonce := make([]byte, key.seal.NonceSize())
	_, _ = rand.Read(nonce) // it does not fail
	out = append(out, nonce...)
	return key.seal.Seal(out, nonce, plain, sealedFor(v, owner))
}

// Open returns what Seal was given. The error is a *MissingKeyError or ErrSealed.
func (k *KeyRing) Open(sealed []byte, owner ...string) ([]byte, error) {
	v, ok := sealedWith(sealed)
	if !ok {
		return nil, ErrSealed
	}
	key := k.version(v)
	if key == nil {
		return nil, &MissingKeyError{int(v)}
	}
	rest := sealed[versionSize:]
	if len(rest) < key.seal.NonceSize() {
		return nil, ErrSealed
	}
	plain, err := key.seal.Open(nil, rest[:key.seal.NonceSize()], rest[key.seal.NonceSize():], sealedFor(v, owner))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// sealedWith returns the version of the key.
func sealedWith(sealed []byte) (uint32, bool) {
	if len(sealed) < versionSize {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed), true
}

// sealedFor is the data that is authenticated but not stored. No two lists are
// written alike.
func sealedFor(version uint32, owner []string) []byte {
	b := binary.BigEndian.AppendUint32(nil, version)
	for _, part := range owner {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return b
}

// A canary is sealed beside the first secret of a tenant: who can open it has the
// key that the secrets of the tenant were sealed with.
const (
	canaryKind = "keyring"
	canaryID   = "canary"
)

type canary struct {
	Sealed []byte `json:"sealed"`
}

// Check reports why a key ring cannot be used with a store: its keys are not those
// that the secrets in the store were sealed with.
func (k *KeyRing) Check(ctx context.Context, store storage.Store) error {
	return eachCanary(ctx, store, k.CheckCanary)
}

// AnythingSealed reports whether a store holds secrets, which are lost without the
// key file. Those of a tenant that is named do not count.
func AnythingSealed(ctx context.Context, store storage.Store, except ...storage.TenantID) (sealed bool, err error) {
	err = eachCanary(ctx, store, func(t storage.TenantID, _ *storage.Item) error {
		sealed = sealed || !slices.Contains(except, t)
		return nil
	})
	return sealed, err
}

// IsCanary reports whether an item is the one by which KeyRing.CheckCanary finds out
// with which keys the secrets of its tenant were sealed.
func IsCanary(i *storage.Item) bool { return i.Kind == canaryKind && i.ID == canaryID }

func eachCanary(ctx context.Context, store storage.Store, fn func(storage.TenantID, *storage.Item) error) error {
	tenants, err := store.ListTenants(ctx)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		i, err := store.Item(ctx, t.ID, canaryKind, canaryID)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err == nil {
			err = fn(t.ID, i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckCanary reports why a key ring cannot open the secrets of a tenant that has this
// canary.
func (k *KeyRing) CheckCanary(tenant storage.TenantID, i *storage.Item) error {
	var c canary
	if err := json.Unmarshal(i.Data, &c); err != nil {
		return errors.New("the record by which the key file is checked is damaged")
	}
	_, err := k.Open(c.Sealed, string(tenant), canaryKind)
	if missing, ok := errors.AsType[*MissingKeyError](err); ok {
		return fmt.Errorf("the key file %s has no key v%d, with which the secrets in the store were sealed; put the former file back", k.path, missing.Version)
	}
	if err != nil {
		return fmt.Errorf("the key file %s belongs to another store: the secrets in this one were sealed with another key", k.path)
	}
	return nil
}

// MeetCanary is for writes that seal a secret: it leaves a canary, or sees to it
// that the key is that of the secrets that are there.
func (k *KeyRing) MeetCanary(tx storage.ItemWriter, tenant storage.TenantID) error {
	i, err := tx.Item(canaryKind, canaryID)
	if errors.Is(err, storage.ErrNotFound) {
		return k.putCanary(tx, tenant, nil)
	}
	if err != nil {
		return err
	}
	return k.CheckCanary(tenant, i)
}

func (k *KeyRing) putCanary(tx storage.ItemWriter, tenant storage.TenantID, prev *storage.Item) error {
	data, err := json.Marshal(canary{k.Seal([]byte(canaryID), string(tenant), canaryKind)})
	if err != nil {
		return err
	}
	return tx.PutItem(prev, &storage.Item{Kind: canaryKind, ID: canaryID, Data: data})
}

// resealedAtOnce bounds what one write seals anew.
const resealedAtOnce = 50

// Sealed is a kind of items that hold secrets, other than credentials. Each has the
// KeyRing.SealedKey of its secret among its keys, and is written in writes that call
// KeyRing.MeetCanary.
type Sealed struct {
	Kind string
	// Reseal returns an item with its secret sealed by the newest key.
	Reseal func(k *KeyRing, tenant storage.TenantID, i *storage.Item) (*storage.Item, error)
}

// Rotate seals everything anew that older versions have sealed, credentials and what
// is of the kinds given, and returns how
// much that was. Servers go on meanwhile. What was done remains when it is
// interrupted, and the next call goes on.
func (k *KeyRing) Rotate(ctx context.Context, store storage.Store, now func() time.Time, kinds ...Sealed) (n int, err error) {
	if err := k.Check(ctx, store); err != nil {
		return 0, err
	}
	newest := uint32(k.Newest())
	err = eachCanary(ctx, store, func(tenant storage.TenantID, _ *storage.Item) error {
		for v := uint32(1); v < newest; v++ {
			for bucket := range sealedBuckets {
				key := sealedKey(v, bucket)
				done, err := k.rotate(ctx, store, tenant, credentialKind, key, now, k.resealCredential)
				n += done
				if err != nil {
					return err
				}
				for _, kind := range kinds {
					done, err := k.rotate(ctx, store, tenant, kind.Kind, key, now, kind.reseal(k, key))
					n += done
					if err != nil {
						return err
					}
				}
			}
		}
		// Last, so that Check asks for the old key as long as something needs it.
		return store.Write(ctx, tenant, func(tx storage.Tx) error {
			prev, err := tx.Item(canaryKind, canaryID)
			if err != nil {
				return err
			}
			if err := k.putCanary(tx, tenant, prev); err != nil {
				return err
			}
			return k.audit(tx, "keyring.rotate", now())
		})
	})
	return n, err
}

func (k *KeyRing) audit(tx storage.Tx, action string, at time.Time) error {
	return tx.Audit(storage.AuditEntry{At: storage.Milli(at), Actor: Principal{Kind: Operator}.Actor(), Action: action, Type: "KeyRing", ID: "v" + strconv.Itoa(k.Newest())})
}

// reseal seals one item anew, and reports whether there was something to do.
type reseal func(tx storage.Tx, tenant storage.TenantID, id string) (bool, error)

func (k *KeyRing) rotate(ctx context.Context, store storage.Store, tenant storage.TenantID, kind, key string, now func() time.Time, fn reseal) (n int, err error) {
	list, err := store.Items(ctx, tenant, kind, key)
	if err != nil {
		return 0, err
	}
	for part := range slices.Chunk(list, resealedAtOnce) {
		done := 0
		err := store.Write(ctx, tenant, func(tx storage.Tx) error {
			done = 0
			for _, i := range part {
				changed, err := fn(tx, tenant, i.ID)
				if err != nil {
					return err
				}
				if changed {
					done++
				}
			}
			if done == 0 {
				return nil
			}
			return k.audit(tx, "keyring.reseal", now())
		})
		if err != nil {
			return n, err
		}
		n += done
	}
	return n, nil
}

func (k *KeyRing) resealCredential(tx storage.Tx, tenant storage.TenantID, user string) (bool, error) {
	c, err := ReadCredential(tx, user)
	if err != nil {
		return false, err
	}
	changed, err := c.reseal(k, tenant, user)
	if err != nil {
		return false, fmt.Errorf("user %s: %w", user, err)
	}
	if !changed {
		return false, nil
	}
	return true, SaveCredential(tx, user, c)
}

// reseal is for items that have this key, unless they have gone or changed meanwhile.
func (s Sealed) reseal(k *KeyRing, key string) reseal {
	return func(tx storage.Tx, tenant storage.TenantID, id string) (bool, error) {
		prev, err := tx.Item(s.Kind, id)
		if errors.Is(err, storage.ErrNotFound) {
			return false, nil
		}
		if err != nil || !slices.Contains(prev.Keys, key) {
			return false, err
		}
		next, err := s.Reseal(k, tenant, prev)
		if err != nil {
			return false, fmt.Errorf("%s %s: %w", s.Kind, id, err)
		}
		return true, tx.PutItem(prev, next)
	}
}

// reseal seals the secrets of a credential anew, unless the newest key did.
func (c *Credential) reseal(k *KeyRing, tenant storage.TenantID, user string) (changed bool, err error) {
	newest := uint32(k.Newest())
	for _, f := range []*Factor{c.TOTP, c.Pending} {
		if f == nil {
			continue
		}
		if v, _ := sealedWith(f.Sealed); v >= newest {
			continue
		}
		plain, err := k.Open(f.Sealed, factorAAD(tenant, user)...)
		if err != nil {
			return false, err
		}
		f.Sealed, changed = k.Seal(plain, factorAAD(tenant, user)...), true
	}
	return changed, nil
}

// Items with something sealed are found by the version of the key, in
// portions that fit into memory however many there are.
const sealedBuckets = 64

func sealedKey(version uint32, bucket int) string { return fmt.Sprintf("v%d/%02d", version, bucket) }

// SealedKey is what an item is found by that holds this secret, when keys are rotated.
func (k *KeyRing) SealedKey(sealed []byte, id string) string { return sealedKeyOf(sealed, id) }

func sealedKeyOf(sealed []byte, id string) string {
	v, _ := sealedWith(sealed)
	h := sha256.Sum256([]byte(id))
	return sealedKey(v, int(h[0])%sealedBuckets)
}

// sealedKeys returns what a credential is found by.
func (c *Credential) sealedKeys(user string) (keys []string) {
	for _, f := range []*Factor{c.TOTP, c.Pending} {
		if f != nil {
			keys = append(keys, sealedKeyOf(f.Sealed, user))
		}
	}
	return keys
}

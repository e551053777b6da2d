// Package kubestore keeps shared state in a Kubernetes API server: nothing but
// the cluster itself is needed.
//
// A key is a Secret in one namespace, its revision the resource version. The
// Secret's name says the key where it can ("gatehouse.orders.le.3f2a") and is a
// hash where it cannot; an annotation says it always. Keys below "certificates/"
// are Secrets of type kubernetes.io/tls, so that people and other programs can
// use them. A Secret that does not carry our label and the key is somebody
// else's: it is neither read nor written.
//
// A lease is a Lease object: its epoch is leaseTransitions, which grows with
// each acquisition. It is taken over when it has not changed for its duration
// by this process's own monotonic clock since this process saw it change;
// nobody's clock is compared with another's. What is announced is a Lease too,
// with the value in an annotation; whoever sees it not change for its duration
// removes it.
//
// Why a lost lease corrupts nothing: Kubernetes knows no transactions over two
// objects, so a write through a lease first asks whether the lease is still
// ours and then writes only over the resource version it knew before it asked.
// And what is read through a lease is first written again, marked with the
// lease's epoch, so that it is at a new version: what an older holder does,
// even if its question was answered long ago, compares the old version and is
// refused. What is absent is marked so by a Secret that says "absent", which all
// reads take for absent; so does deleting through a lease. These marks are
// removed after an hour; a write held up for longer than that between question
// and server, of a key that has been absent ever since, would be taken.
package kubestore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"gatehouse/internal/kubeclient"
	"gatehouse/internal/store"
)

// What our objects carry.
const (
	labelManaged = "app.kubernetes.io/managed-by"
	labelStore   = "gatehouse/store" // Options.Prefix
	labelKind    = "gatehouse/kind"  // the key's first segment
	noteKey      = "gatehouse/key"
	noteHolder   = "gatehouse/holder" // lease and epoch it was last read or written under
	noteAbsent   = "gatehouse/absent" // since when: the key does not exist
	noteWrite    = "gatehouse/write"  // another with each write, so that each has a version
	noteValue    = "gatehouse/value"  // of an announcement, base64
	noteToken    = "gatehouse/token"  // which acquisition or announcement it is

	managedBy = "gatehouse"
	dataValue = "value"
)

// Options say where the store is and who uses it.
type Options struct {
	Client    *kubeclient.Client
	Namespace string // empty: the client's own
	Prefix    string // of all objects' names; empty: "gatehouse"
	// Pair gives the certificate chain and key, in PEM, of the value of a key
	// below "certificates/": what its Secret's tls.crt and tls.key are. May be
	// nil; they are empty then, and where ok is false.
	Pair    func(value []byte) (chain, key []byte, ok bool)
	TTL     time.Duration // of a lease; zero: 5 s. Kubernetes counts whole seconds
	Replica string        // the holder's name
	Logger  *slog.Logger  // nil: nothing is logged
}

// Store implements store.Store on Kubernetes. The Client stays the caller's.
type Store struct {
	o       Options
	ttl     time.Duration
	log     *slog.Logger
	secrets kubeclient.Objects[corev1.Secret, *corev1.Secret]
	leases  leaseObjects

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   store.Work
	begin  sync.Once // starts what follows the Leases

	mu    sync.Mutex
	slots map[string]chan struct{}
	seen  sightings
}

// Open checks the settings; the server need not be up, calls try it again.
// The caller calls Close in the end.
func Open(o Options) (*Store, error) {
	if o.Client == nil {
		return nil, errors.New("open kubernetes store: no client given")
	}
	o.Prefix = cmp.Or(strings.Trim(o.Prefix, "/"), "gatehouse")
	o.Namespace = cmp.Or(o.Namespace, o.Client.Namespace())
	if problems := validation.IsDNS1123Label(o.Prefix); len(problems) > 0 {
		return nil, fmt.Errorf("open kubernetes store: prefix %q names objects: %s", o.Prefix, problems[0])
	}
	s := &Store{
		o: o, ttl: (cmp.Or(o.TTL, 5*time.Second) + time.Second - 1).Truncate(time.Second),
		log:     cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),
		secrets: kubeclient.Secrets(o.Client), leases: kubeclient.Leases(o.Client),
		slots: map[string]chan struct{}{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Close gives up all leases and announcements.
func (s *Store) Close() error {
	s.cancel()
	s.work.Wait()
	return nil
}

var errClosed = errors.New("the store was closed")

// errForeign: the Secret of a key is not ours.
var errForeign = errors.New("a Secret of this name is somebody else's and is left alone")

// state is what the Secret of a key says.
type state struct {
	secret *corev1.Secret // nil: there is none
	absent bool           // there is none, or one that says so
}

func (st state) value() []byte {
	if st.absent {
		return nil
	}
	return st.secret.Data[dataValue]
}

// version is the resource version to compare; empty: there is no object.
func (st state) version() string {
	if st.secret == nil {
		return ""
	}
	return st.secret.ResourceVersion
}

func (st state) revision() store.Revision {
	if st.absent {
		return ""
	}
	return secretRevision(st.secret)
}

func secretRevision(secret *corev1.Secret) store.Revision {
	return store.Revision("s" + secret.ResourceVersion)
}

// read asks for a key's Secret.
func (s *Store) read(ctx context.Context, key string) (state, error) {
	secret, err := s.secrets.Get(ctx, s.o.Namespace, s.objectName(key))
	if kubeclient.Gone(err) {
		return state{absent: true}, nil
	}
	if err != nil {
		return state{}, err
	}
	if secret.Labels[labelManaged] != managedBy || secret.Annotations[noteKey] != key {
		return state{}, fmt.Errorf("secret %s/%s: %w", secret.Namespace, secret.Name, errForeign)
	}
	return state{secret: secret, absent: secret.Annotations[noteAbsent] != ""}, nil
}

// Get is Store.Get: what the server has agreed on.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Entry{}, err
	}
	st, err := s.read(ctx, key)
	if err == nil && st.absent {
		return s.getMortal(ctx, key)
	}
	if err != nil {
		return store.Entry{}, fmt.Errorf("get %s: %w", key, err)
	}
	return store.Entry{Key: key, Value: st.value(), Revision: st.revision()}, nil
}

// Put is Store.Put.
func (s *Store) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	if err := store.CheckWrite(key, value); err != nil {
		return "", err
	}
	base, err := s.base(ctx, key, have)
	if err == nil {
		base, err = s.swap(ctx, base, s.secret(key, value, ""))
	}
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	return store.Revision("s" + base), nil
}

// base is the resource version to compare when the caller has a revision: for
// a key that does not exist that of the Secret that says so, or none.
func (s *Store) base(ctx context.Context, key string, have store.Revision) (string, error) {
	if have != "" {
		return versionOf(have, 's')
	}
	st, err := s.read(ctx, key)
	switch {
	case err != nil:
		return "", err
	case !st.absent:
		return "", fmt.Errorf("%w (it is at %q, not absent)", store.ErrConflict, st.revision())
	}
	if e, err := s.getMortal(ctx, key); err == nil {
		return "", fmt.Errorf("%w (it is announced at %q)", store.ErrConflict, e.Revision)
	} else if !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	return st.version(), nil
}

// versionOf is the resource version in the revision of a key that exists:
// 's' that of a Secret, 'l' of a Lease.
func versionOf(have store.Revision, kind byte) (string, error) {
	if len(have) < 2 || have[0] != kind {
		return "", fmt.Errorf("%w (no key is at %q)", store.ErrConflict, have)
	}
	return string(have[1:]), nil
}

// secret makes the Secret of a key; holder is the lease it is written under.
func (s *Store) secret(key string, value []byte, holder string) *corev1.Secret {
	out := &corev1.Secret{
		ObjectMeta: s.meta(key), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{dataValue: value},
	}
	out.Annotations[noteWrite] = rand.Text()
	if holder != "" {
		out.Annotations[noteHolder] = holder
	}
	if store.Under(key, "certificates") {
		out.Type = corev1.SecretTypeTLS
		out.Data[corev1.TLSCertKey], out.Data[corev1.TLSPrivateKeyKey] = nil, nil
		if s.o.Pair != nil {
			if chain, private, ok := s.o.Pair(value); ok {
				out.Data[corev1.TLSCertKey], out.Data[corev1.TLSPrivateKeyKey] = chain, private
			}
		}
	}
	return out
}

// absent makes the Secret that says that a key does not exist.
func (s *Store) absent(key, holder string) *corev1.Secret {
	out := s.secret(key, nil, holder)
	out.Annotations[noteAbsent] = time.Now().UTC().Format(time.RFC3339)
	return out
}

func (s *Store) meta(key string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: s.o.Namespace, Name: s.objectName(key),
		Labels:      map[string]string{labelManaged: managedBy, labelStore: s.o.Prefix, labelKind: kindOf(key)},
		Annotations: map[string]string{noteKey: key},
	}
}

// swap writes a Secret if its key's is at version (empty: if there is none),
// and returns its new version.
func (s *Store) swap(ctx context.Context, version string, secret *corev1.Secret) (string, error) {
	write := s.secrets.Update
	if version == "" {
		write = s.secrets.Create
	}
	secret.ResourceVersion = version
	done, err := write(ctx, secret)
	switch {
	case err == nil:
		return done.ResourceVersion, nil
	case kubeclient.Conflicts(err), kubeclient.Gone(err) && version != "", isBadVersion(err):
		if conflict := s.foreign(ctx, secret); conflict != nil {
			return "", conflict
		}
		return "", fmt.Errorf("%w (not at %q): %w", store.ErrConflict, version, err)
	case isTooLarge(err):
		return "", fmt.Errorf("%w: %w", store.ErrTooLarge, err)
	}
	return "", err
}

// foreign says whether a conflict is that somebody else's Secret is there.
func (s *Store) foreign(ctx context.Context, secret *corev1.Secret) error {
	if _, err := s.read(ctx, secret.Annotations[noteKey]); errors.Is(err, errForeign) {
		return err
	}
	return nil
}

// isBadVersion: what a caller gave as a revision was never one.
func isBadVersion(err error) bool {
	return apierrors.IsInvalid(err) && strings.Contains(err.Error(), "resourceVersion") ||
		apierrors.IsBadRequest(err) && strings.Contains(err.Error(), "resource version")
}

func isTooLarge(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return strings.Contains(err.Error(), "ResourceExhausted")
	}
	return status.Status().Code == http.StatusRequestEntityTooLarge ||
		apierrors.IsInvalid(err) && strings.Contains(err.Error(), "Too long") ||
		strings.Contains(err.Error(), "request is too large")
}

// Delete is Store.Delete.
func (s *Store) Delete(ctx context.Context, key string, have store.Revision) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	st, err := s.read(ctx, key)
	if err == nil && st.absent {
		err = s.deleteMortal(ctx, key, have)
	} else if err == nil {
		var version string
		if version, err = versionOf(have, 's'); err == nil {
			err = s.deleted(s.secrets.Delete(ctx, s.o.Namespace, s.objectName(key), version))
		}
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// deleted says what the answer to a conditional deletion means.
func (s *Store) deleted(err error) error {
	switch {
	case err == nil:
		return nil
	case kubeclient.Gone(err):
		return fmt.Errorf("%w: %w", store.ErrNotFound, err)
	case kubeclient.Conflicts(err), isBadVersion(err):
		return fmt.Errorf("%w: %w", store.ErrConflict, err)
	}
	return err
}

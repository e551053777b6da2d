// Package etcd3store keeps shared state in etcd, through its v3 API.
//
// A key is the prefix, a slash and the store's key; a value is stored as it
// is, and a revision is the key's mod revision. Keys that end in a slash are the
// folders Traefik 1.x made (MakeDir) and no entries.
//
// A replica has one session: an etcd lease it renews three times per TTL and
// begins anew for ever. Keys of leases and announcements are attached to it and
// go with it. Who wants a lease queues under ".queue/<name>/" and waits for the
// one before it only; the first of the queue waits for "leases/<name>" to go and
// creates it in one transaction.
//
// Why a lost lease corrupts nothing: the epoch is the create revision of
// "leases/<name>", which is another one for each acquisition and only grows.
// Every read and write through a lease is a transaction that compares it, so
// etcd itself does it while the lease is held, or not at all; clocks decide
// nothing. The holder's context is for what etcd cannot refuse, such as asking a
// CA: it ends a margin before a TTL has passed, by our monotonic clock, since
// the last renewal that succeeded was sent; etcd counts from when it arrived.
package etcd3store

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse/internal/store"
)

const (
	callTimeout = 3 * time.Second  // of a call about one key
	listTimeout = 15 * time.Second // of reading all that is under a prefix
)

// Options say where the store is and who uses it.
type Options struct {
	Endpoints []string // "host:port", or a URL; any of them will do
	// Prefix of all keys, taken as it is but for slashes at its end.
	Prefix             string
	Username, Password string
	TLS                *tls.Config   // nil: none, unless an endpoint is https
	TTL                time.Duration // of the session; zero: 5 s. etcd counts seconds and takes no less than about 2
	Replica            string        // the holder's name
	Logger             *slog.Logger  // nil: nothing is logged
}

// Store implements store.Store on etcd.
type Store struct {
	o      Options
	prefix string // with its slash, or empty
	log    *slog.Logger

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   store.Work
	begin  sync.Once // starts the session's loop

	dialing chan struct{} // held by who makes the client
	mu      sync.Mutex
	client  *clientv3.Client // nil: to be made by the next call
	session *session         // nil: none now
	changed chan struct{}    // closed and replaced when session is
	claims  uint64           // counted, to name them
	slots   map[string]chan struct{}
}

// Open checks the settings; the server need not be up, calls try it again.
// The caller calls Close in the end.
func Open(_ context.Context, o Options) (*Store, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("open etcd v3 store: no endpoint given")
	}
	for _, e := range o.Endpoints {
		if err := checkEndpoint(e); err != nil {
			return nil, fmt.Errorf("open etcd v3 store: endpoint %q: %w", e, err)
		}
	}
	if (o.Username == "") != (o.Password == "") {
		return nil, errors.New("open etcd v3 store: a user name and a password go together")
	}
	s := &Store{
		o: o, prefix: strings.TrimRight(o.Prefix, "/"), log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),
		dialing: make(chan struct{}, 1), changed: make(chan struct{}), slots: map[string]chan struct{}{},
	}
	s.o.TTL = cmp.Or(o.TTL, 5*time.Second)
	if s.prefix != "" {
		s.prefix += "/"
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func checkEndpoint(e string) error {
	if !strings.Contains(e, "://") {
		e = "http://" + e
	}
	u, err := url.Parse(e)
	switch {
	case err != nil:
		return err
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "unix":
		return fmt.Errorf("scheme %q is none of http, https, unix", u.Scheme)
	case u.Host == "" && u.Scheme != "unix":
		return errors.New("no host")
	}
	return nil
}

// Close gives up the session, and with it all leases and announcements.
func (s *Store) Close() error {
	s.cancel()
	s.work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		return nil
	}
	err := s.client.Close()
	s.client = nil
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// where is the server's name in messages.
func (s *Store) where() string { return "etcd " + strings.Join(s.o.Endpoints, ",") }

// dial returns the client, made if there is none: with a user name that asks
// the server.
func (s *Store) dial(ctx context.Context) (*clientv3.Client, error) {
	if c := s.current(); c != nil {
		return c, nil
	}
	select {
	case s.dialing <- struct{}{}:
		defer func() { <-s.dialing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if c := s.current(); c != nil {
		return c, nil
	}
	if s.ctx.Err() != nil {
		return nil, errClosed
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: s.o.Endpoints, Username: s.o.Username, Password: s.o.Password, TLS: s.o.TLS,
		DialTimeout: callTimeout, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: callTimeout,
		MaxUnaryRetries: 3, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: callTimeout,
		}), grpc.WithChainUnaryInterceptor(failFast)},
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = c
	return c, nil
}

// failFast lets a call fail with the reason that there is no connection, where
// etcd's client would wait for one until the time is over and say only that.
func failFast(ctx context.Context, method string, req, reply any, c *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(ctx, method, req, reply, c, append(opts[:len(opts):len(opts)], grpc.WaitForReady(false))...)
}

var errClosed = errors.New("the store was closed")

func (s *Store) current() *clientv3.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

// discard closes a client on which a call was not answered in time: its
// connection may lead nowhere, and a new one is made at once.
func (s *Store) discard(c *clientv3.Client) {
	s.mu.Lock()
	current := s.client == c
	if current {
		s.client = nil
	}
	s.mu.Unlock()
	if current {
		_ = c.Close()
	}
}

// call runs one bounded call to the server.
func (s *Store) call(ctx context.Context, bound time.Duration, do func(context.Context, *clientv3.Client) error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	c, err := s.dial(bounded)
	if err == nil {
		err = do(bounded, c)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	case bounded.Err() != nil:
		if c != nil {
			s.discard(c)
		}
		return fmt.Errorf("no answer within %v: %w", bound, err)
	case errors.Is(err, rpctypes.ErrRequestTooLarge), status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max"):
		return fmt.Errorf("%w: %w", store.ErrTooLarge, err)
	}
	return err
}

// txn runs a transaction.
func (s *Store) txn(ctx context.Context, compare []clientv3.Cmp, then, otherwise []clientv3.Op) (r *clientv3.TxnResponse, err error) {
	err = s.call(ctx, callTimeout, func(ctx context.Context, c *clientv3.Client) error {
		r, err = c.Txn(ctx).If(compare...).Then(then...).Else(otherwise...).Commit()
		return err
	})
	return r, err
}

// fence is what a transaction must find, and says afterwards whether that is
// why it was refused. The zero fence asks nothing.
type fence struct {
	compare []clientv3.Cmp
	ask     []clientv3.Op
	refused func(*clientv3.TxnResponse) error
}

func (f fence) err(r *clientv3.TxnResponse) error {
	if f.refused == nil {
		return nil
	}
	return f.refused(r)
}

// Get is Store.Get: a linearizable read.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	return s.get(ctx, key, fence{})
}

// Put is Store.Put.
func (s *Store) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	return s.put(ctx, key, value, have, fence{})
}

// Delete is Store.Delete.
func (s *Store) Delete(ctx context.Context, key string, have store.Revision) error {
	return s.delete(ctx, key, have, fence{})
}

func (s *Store) get(ctx context.Context, key string, f fence) (e store.Entry, err error) {
	if err := store.CheckKey(key); err != nil {
		return store.Entry{}, err
	}
	r, err := s.txn(ctx, f.compare, []clientv3.Op{clientv3.OpGet(s.prefix + key)}, f.ask)
	if err == nil && !r.Succeeded {
		err = f.err(r)
	}
	if err == nil {
		kvs := r.Responses[0].GetResponseRange().Kvs
		if len(kvs) == 1 {
			return store.Entry{Key: key, Value: kvs[0].Value, Revision: revision(kvs[0].ModRevision)}, nil
		}
		err = store.ErrNotFound
	}
	return store.Entry{}, fmt.Errorf("get %s%s from %s: %w", s.prefix, key, s.where(), err)
}

func (s *Store) put(ctx context.Context, key string, value []byte, have store.Revision, f fence) (store.Revision, error) {
	if err := store.CheckWrite(key, value); err != nil {
		return "", err
	}
	r, err := s.change(ctx, key, have, clientv3.OpPut(s.prefix+key, string(value)), f)
	if err != nil {
		return "", fmt.Errorf("put %s%s to %s: %w", s.prefix, key, s.where(), err)
	}
	return revision(r.Header.Revision), nil
}

func (s *Store) delete(ctx context.Context, key string, have store.Revision, f fence) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	r, err := s.change(ctx, key, have, clientv3.OpDelete(s.prefix+key), f)
	var conflict *conflict
	switch {
	case err == nil && r.Responses[0].GetResponseDeleteRange().Deleted == 0:
		err = store.ErrNotFound
	case errors.As(err, &conflict) && conflict.at == "":
		err = store.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("delete %s%s from %s: %w", s.prefix, key, s.where(), err)
	}
	return nil
}

// conflict is ErrConflict with the revision the key is at.
type conflict struct{ at, have store.Revision }

func (c *conflict) Error() string {
	return fmt.Sprintf("%v (it is at %q, not %q)", store.ErrConflict, c.at, c.have)
}

func (c *conflict) Unwrap() error { return store.ErrConflict }

// change does op if key is at have.
func (s *Store) change(ctx context.Context, key string, have store.Revision, op clientv3.Op, f fence) (*clientv3.TxnResponse, error) {
	at, err := strconv.ParseInt(cmp.Or(string(have), "0"), 10, 64)
	if err != nil {
		at = -1 // no key is at it
	}
	look := clientv3.OpGet(s.prefix+key, clientv3.WithKeysOnly())
	compare := append(f.compare[:len(f.compare):len(f.compare)], clientv3.Compare(clientv3.ModRevision(s.prefix+key), "=", at))
	r, err := s.txn(ctx, compare, []clientv3.Op{op}, append(f.ask[:len(f.ask):len(f.ask)], look))
	if err != nil || r.Succeeded {
		return r, err
	}
	if err := f.err(r); err != nil {
		return nil, err
	}
	c := &conflict{have: have}
	if kvs := r.Responses[len(r.Responses)-1].GetResponseRange().Kvs; len(kvs) == 1 {
		c.at = revision(kvs[0].ModRevision)
	}
	return nil, c
}

func revision(mod int64) store.Revision { return store.Revision(strconv.FormatInt(mod, 10)) }

// MakeDir makes key a folder as Traefik 1.x did: an empty value at key + "/".
// It is no error if it is there.
func (s *Store) MakeDir(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	folder := s.prefix + key + "/"
	absent := []clientv3.Cmp{clientv3.Compare(clientv3.Version(folder), "=", 0)}
	if _, err := s.txn(ctx, absent, []clientv3.Op{clientv3.OpPut(folder, "")}, nil); err != nil {
		return fmt.Errorf("make folder %s in %s: %w", folder, s.where(), err)
	}
	return nil
}

// DeleteDir removes what MakeDir made. A folder that has something in it, or
// is not there, is left as it is, without an error.
func (s *Store) DeleteDir(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	folder := s.prefix + key + "/"
	empty := []clientv3.Cmp{clientv3.Compare(clientv3.Version(folder+"\x00").WithRange(clientv3.GetPrefixRangeEnd(folder)), "=", 0)}
	if _, err := s.txn(ctx, empty, []clientv3.Op{clientv3.OpDelete(folder)}, nil); err != nil {
		return fmt.Errorf("delete folder %s in %s: %w", folder, s.where(), err)
	}
	return nil
}

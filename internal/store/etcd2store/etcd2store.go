// Package etcd2store keeps shared state in etcd through its v2 API, which
// etcd 3.5 still has behind --enable-v2. It speaks plain HTTP: the API is five
// requests, etcd's own client for it is no longer kept, picks endpoints by
// itself and hides which of them said what.
//
// A key is a node below the prefix, a revision the node's modified index. Values
// that are UTF-8 are stored as they are, so that people and other programs
// read and write them with etcdctl; others, which the JSON of this API would
// corrupt, as "gatehouse:base64:" and their base64. Names that begin with an
// underscore, which v2 hides, are written with "%5F".
//
// v2 knows neither sessions nor transactions over several keys. A lease is one
// node with a TTL, "leases/<name>", created only if it does not exist and
// refreshed three times per TTL; its epoch is its created index.
//
// Why a lost lease corrupts nothing: a write through a lease first asks, by a
// quorum read, whether the lease's node is still ours, and then writes only if
// the key is at the index it was read at before. And what is read through a
// lease is first written again as it is, so that it is at a new index: what an
// older holder does, even if its check was answered long ago, compares the old
// index and is refused. What is absent is marked so by a node that says
// "gatehouse:absent" for an hour, which all reads take for absent; so does
// deleting through a lease. What remains: a write held up for more than that
// hour between our check and etcd, of a key that has been absent ever since, is
// taken; and so is a creation if somebody without a lease has removed the key
// meanwhile.
//
// etcd judges TTLs by the clocks of its members: they must agree to well under
// a fifth of the TTL.
package etcd2store

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/store"
)

// Options say where the store is and who uses it.
type Options struct {
	Endpoints          []string // "host:port", or a URL; tried in turn
	Prefix             string   // of all keys; slashes around it do not matter
	Username, Password string
	TLS                *tls.Config   // nil: none, unless an endpoint is https
	TTL                time.Duration // of a lease; zero: 5 s. etcd counts whole seconds
	Replica            string        // the holder's name
	Logger             *slog.Logger  // nil: nothing is logged
}

// Store implements store.Store on etcd.
type Store struct {
	o      Options
	ttl    time.Duration
	prefix string // without slashes around it; may be empty
	log    *slog.Logger
	api    *api

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   store.Work
}

// Open checks the settings; the server need not be up, calls try it again.
// The caller calls Close in the end.
func Open(_ context.Context, o Options) (*Store, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("open etcd v2 store: no endpoint given")
	}
	if (o.Username == "") != (o.Password == "") {
		return nil, errors.New("open etcd v2 store: a user name and a password go together")
	}
	a := newAPI(o)
	for _, e := range o.Endpoints {
		u, err := parseEndpoint(e, o.TLS != nil)
		if err != nil {
			return nil, fmt.Errorf("open etcd v2 store: endpoint %q: %w", e, err)
		}
		a.endpoints = append(a.endpoints, u)
	}
	s := &Store{
		o: o, prefix: strings.Trim(o.Prefix, "/"), log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)), api: a,
		ttl: (cmp.Or(o.TTL, 5*time.Second) + time.Second - 1).Truncate(time.Second),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func parseEndpoint(e string, tls bool) (string, error) {
	if !strings.Contains(e, "://") {
		e = map[bool]string{false: "http://", true: "https://"}[tls] + e
	}
	u, err := url.Parse(e)
	switch {
	case err != nil:
		return "", err
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("scheme %q is neither http nor https", u.Scheme)
	case u.Host == "":
		return "", errors.New("no host")
	}
	return u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/"), nil
}

// Close gives up all leases and announcements.
func (s *Store) Close() error {
	s.cancel()
	s.work.Wait()
	s.api.http.CloseIdleConnections()
	return nil
}

// path is the node of a key, below /v2/keys.
func (s *Store) path(key string) string {
	var b strings.Builder
	for _, part := range []string{s.prefix, key} {
		for segment := range strings.SplitSeq(part, "/") {
			if segment != "" {
				b.WriteString("/" + hide(segment))
			}
		}
	}
	return b.String()
}

const underscore = "%5F"

// hide is how a segment is written: one that begins with an underscore would be
// hidden by etcd, so it begins with %5F, and one that begins so, with %255F.
func hide(segment string) string {
	if strings.HasPrefix(segment, "_") {
		return underscore + segment[1:]
	}
	if isHidden(segment) {
		return "%25" + segment[1:]
	}
	return segment
}

func unhide(segment string) string {
	switch {
	case strings.HasPrefix(segment, underscore):
		return "_" + segment[len(underscore):]
	case isHidden(segment):
		return "%" + segment[len("%25"):]
	}
	return segment
}

// isHidden says whether a segment is %, any number of 25, and 5F.
func isHidden(segment string) bool {
	rest, ok := strings.CutPrefix(segment, "%")
	for ok && strings.HasPrefix(rest, "25") {
		rest = rest[2:]
	}
	return ok && strings.HasPrefix(rest, "5F")
}

// keyOf is the key of a node below the prefix.
func (s *Store) keyOf(path string) string {
	if s.prefix != "" {
		path = strings.TrimPrefix(path, s.path(""))
	}
	segments := strings.Split(strings.Trim(path, "/"), "/")
	for i, segment := range segments {
		segments[i] = unhide(segment)
	}
	return strings.Join(segments, "/")
}

// state is what a node says of its key.
type state struct {
	value  []byte
	index  uint64 // 0: there is no node
	absent bool   // there is none, or one that says so
	mortal bool   // it has a TTL
	raw    string
	made   uint64 // created index
}

func stateOf(n *node) state {
	if n.Dir {
		return state{absent: true}
	}
	st := state{index: n.ModifiedIndex, made: n.CreatedIndex, raw: n.Value, mortal: n.TTL > 0, absent: n.Value == tombstone}
	st.value = decode(n.Value)
	return st
}

func (st state) revision() store.Revision {
	if st.absent {
		return ""
	}
	return revision(st.index)
}

func revision(index uint64) store.Revision { return store.Revision(strconv.FormatUint(index, 10)) }

// read asks the quorum for a key.
func (s *Store) read(ctx context.Context, key string) (state, error) {
	r, err := s.api.do(ctx, http.MethodGet, s.path(key), url.Values{"quorum": {"true"}}, nil)
	if isCode(err, codeKeyNotFound) || isCode(err, codeNotDir) {
		return state{absent: true}, nil
	}
	if err != nil {
		return state{}, err
	}
	return stateOf(&r.Node), nil
}

// Get is Store.Get: a quorum read.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Entry{}, err
	}
	st, err := s.read(ctx, key)
	if err == nil && st.absent {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Entry{}, s.failed("get", key, err)
	}
	return store.Entry{Key: key, Value: st.value, Revision: st.revision()}, nil
}

// failed wraps err with what was asked.
func (s *Store) failed(verb, key string, err error) error {
	return fmt.Errorf("%s %s in etcd v2 %s: %w", verb, s.path(key), s.api.names(), err)
}

// Put is Store.Put.
func (s *Store) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	if err := store.CheckWrite(key, value); err != nil {
		return "", err
	}
	base, err := s.base(ctx, key, have)
	if err == nil {
		base, err = s.swap(ctx, key, encode(value), base, 0)
	}
	if err != nil {
		return "", s.failed("put", key, err)
	}
	return revision(base), nil
}

// base is the index to compare when the caller has a revision: for a key that
// does not exist that of the node that says so, or 0.
func (s *Store) base(ctx context.Context, key string, have store.Revision) (uint64, error) {
	if have != "" {
		return indexOf(have)
	}
	st, err := s.read(ctx, key)
	if err == nil && !st.absent {
		err = fmt.Errorf("%w (it is at %q, not absent)", store.ErrConflict, st.revision())
	}
	return st.index, err
}

// indexOf is the index of the revision of a key that exists.
func indexOf(have store.Revision) (uint64, error) {
	index, err := strconv.ParseUint(string(have), 10, 64)
	if err != nil || index == 0 {
		return 0, fmt.Errorf("%w (no key is at %q)", store.ErrConflict, have)
	}
	return index, nil
}

// swap writes raw if the key's node is at base (0: if there is none), and
// returns its index.
func (s *Store) swap(ctx context.Context, key, raw string, base uint64, ttl time.Duration) (uint64, error) {
	form := url.Values{"value": {raw}}
	if base == 0 {
		form.Set("prevExist", "false")
	} else {
		form.Set("prevIndex", strconv.FormatUint(base, 10))
	}
	if ttl > 0 {
		form.Set("ttl", seconds(ttl))
	}
	r, err := s.api.do(ctx, http.MethodPut, s.path(key), nil, form)
	if isCode(err, codeTestFailed) || isCode(err, codeNodeExist) || isCode(err, codeKeyNotFound) {
		return 0, fmt.Errorf("%w (not at index %d): %w", store.ErrConflict, base, err)
	}
	if err != nil {
		return 0, err
	}
	return r.Node.ModifiedIndex, nil
}

func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// Delete is Store.Delete.
func (s *Store) Delete(ctx context.Context, key string, have store.Revision) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	index, err := indexOf(have)
	if err == nil {
		query := url.Values{"prevIndex": {strconv.FormatUint(index, 10)}}
		_, err = s.api.do(ctx, http.MethodDelete, s.path(key), query, nil)
	}
	if err = s.deleted(ctx, key, err); err != nil {
		return s.failed("delete", key, err)
	}
	return nil
}

// deleted says what the answer to a conditional deletion means.
func (s *Store) deleted(ctx context.Context, key string, err error) error {
	switch {
	case isCode(err, codeKeyNotFound), isCode(err, codeNotFile), isCode(err, codeNotDir):
		return store.ErrNotFound
	case !isCode(err, codeTestFailed) && !errors.Is(err, store.ErrConflict):
		return err
	}
	st, rerr := s.read(ctx, key)
	switch {
	case rerr != nil:
		return fmt.Errorf("%w (and then: %w)", err, rerr)
	case st.absent:
		return store.ErrNotFound
	}
	return fmt.Errorf("%w (it is at %q)", store.ErrConflict, st.revision())
}

// MakeDir makes key a folder. It is no error if it is one.
func (s *Store) MakeDir(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	_, err := s.api.do(ctx, http.MethodPut, s.path(key), nil, url.Values{"dir": {"true"}, "prevExist": {"false"}})
	if isCode(err, codeNodeExist) {
		var dir bool
		if dir, err = s.isDir(ctx, key); err == nil && !dir {
			err = errors.New("it is a key, not a folder")
		}
	}
	if err != nil {
		return s.failed("make folder", key, err)
	}
	return nil
}

// DeleteDir removes an empty folder. One that has something in it, or is not
// there, is left as it is, without an error.
func (s *Store) DeleteDir(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	// Asked first, as etcd would remove a key just as well.
	dir, err := s.isDir(ctx, key)
	if err == nil && dir {
		_, err = s.api.do(ctx, http.MethodDelete, s.path(key), url.Values{"dir": {"true"}}, nil)
	}
	if err != nil && !isCode(err, codeDirNotEmpty) && !isCode(err, codeKeyNotFound) {
		return s.failed("delete folder", key, err)
	}
	return nil
}

func (s *Store) isDir(ctx context.Context, key string) (bool, error) {
	r, err := s.api.do(ctx, http.MethodGet, s.path(key), url.Values{"quorum": {"true"}}, nil)
	if err != nil {
		return false, err
	}
	return r.Node.Dir, nil
}

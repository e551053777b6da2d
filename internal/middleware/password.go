package middleware

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/GehirnInc/crypt"
	"github.com/GehirnInc/crypt/apr1_crypt"
	"github.com/GehirnInc/crypt/md5_crypt"
	"golang.org/x/crypto/bcrypt"
)

// passwordHash tells whether a password is the one that was hashed, in a time
// that does not depend on how much of it is right.
type passwordHash func(password string) bool

// parseHash recognises the forms htpasswd writes. Plain text is none of them.
func parseHash(text string) (passwordHash, error) {
	switch {
	case strings.HasPrefix(text, "$2"):
		if _, err := bcrypt.Cost([]byte(text)); err != nil || len(text) != 60 {
			return nil, errors.New("damaged bcrypt hash")
		}
		hash := []byte(text)
		return func(password string) bool {
			return bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil
		}, nil
	case strings.HasPrefix(text, "$apr1$"):
		return md5Hash(apr1_crypt.New(), "$apr1$", text)
	case strings.HasPrefix(text, "$1$"):
		return md5Hash(md5_crypt.New(), "$1$", text)
	case strings.HasPrefix(text, "{SHA}"):
		want, err := base64.StdEncoding.DecodeString(text[len("{SHA}"):])
		if err != nil || len(want) != sha1.Size {
			return nil, errors.New("damaged {SHA} hash")
		}
		return func(password string) bool {
			got := sha1.Sum([]byte(password))
			return subtle.ConstantTimeCompare(got[:], want) == 1
		}, nil
	}
	return nil, errors.New("the hash is of no known kind; passwords in plain text are not accepted")
}

// md5Hash checks the shape magic + salt + "$" + 22 characters.
func md5Hash(kind crypt.Crypter, magic, text string) (passwordHash, error) {
	salt, sum, found := strings.Cut(text[len(magic):], "$")
	if !found || len(salt) > 8 || len(sum) != 22 {
		return nil, errors.New("damaged MD5 hash")
	}
	return func(password string) bool { return kind.Verify(text, []byte(password)) == nil }, nil
}

// How long, and how many, passwords found right are remembered.
const (
	rememberFor  = time.Minute
	rememberMost = 1024
)

// passwordDoor checks passwords. A hash is slow on purpose, so what was found
// right is remembered for a while, as a salted digest; what is wrong pays the
// full price each time, and so does an unknown user.
type passwordDoor struct {
	users   map[string]passwordHash
	unknown passwordHash  // what unknown users are compared with
	slots   chan struct{} // checks at a time: guessing must not take every core
	salt    [32]byte

	mu    sync.RWMutex
	right map[passwordDigest]time.Time // until when
}

func newPasswordDoor(users map[string]passwordHash) *passwordDoor {
	d := &passwordDoor{
		users: users,
		slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		right: make(map[passwordDigest]time.Time),
	}
	rand.Read(d.salt[:])
	least := ""
	for name, hash := range users {
		if least == "" || name < least {
			least, d.unknown = name, hash
		}
	}
	return d
}

// opens tells whether the password is the user's. It waits for its turn and
// gives up with ctx.
func (d *passwordDoor) opens(ctx context.Context, user, password string) bool {
	key := d.digest(user, password)
	if d.remembers(key) {
		return true
	}
	began := time.Now()
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-d.slots }()
	hash, known := d.users[user]
	if !known {
		hash = d.unknown
	}
	if !hash(password) || !known {
		return false
	}
	d.remember(key, began)
	return true
}

// remembers tells whether the pair was found right not long ago.
func (d *passwordDoor) remembers(key passwordDigest) bool {
	d.mu.RLock()
	until, found := d.right[key]
	d.mu.RUnlock()
	return found && time.Now().Before(until)
}

func (d *passwordDoor) remember(key passwordDigest, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.right) >= rememberMost {
		for k, until := range d.right {
			if !now.Before(until) {
				delete(d.right, k)
			}
		}
		if len(d.right) >= rememberMost {
			clear(d.right)
		}
	}
	d.right[key] = now.Add(rememberFor)
}

func (d *passwordDoor) digest(user, password string) passwordDigest {
	var space [256]byte
	b := append(space[:0], d.salt[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(user)))
	b = append(b, user...)
	b = append(b, password...)
	return sha256.Sum256(b)
}

// passwordDigest names one pair of user and password.
type passwordDigest [sha256.Size]byte

// Package certimport reads certificates that other programs obtained: acme.json
// of any Traefik, the folders of certmagic (Caddy), lego and certbot, Secrets
// and PEM files as people have them. It writes nothing.
//
// But for acme.json no format is known: what is found are PEM blocks, and a
// certificate belongs to the key that fits it, whatever their files are called;
// so do the authorities' certificates that its chain lacks.
package certimport

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/traefik1"
)

// Bounds on what is read: these are folders of text files.
const (
	maxFile  = 1 << 20
	maxJSON  = 64 << 20
	maxFiles = 200_000
)

// Found is a certificate with its key, both PEM, the chain leaf first, the key
// PKCS#8. They fit one another.
type Found struct {
	Names    []string
	NotAfter time.Time
	Chain    []byte
	Key      []byte
	Source   string // file of the certificate
	Lacks    string // the authority whose certificate the chain should have; "": none
}

// Read finds the certificates under paths, files and folders. Each error names
// what could not be used and why; the rest is found. Keys without certificates
// are left out, as those of accounts are; so are authorities' certificates.
func Read(paths []string) ([]Found, []error) {
	return read(paths, time.Now())
}

func read(paths []string, now time.Time) ([]Found, []error) {
	c := &collection{now: now, keys: map[string]crypto.PrivateKey{}, chains: map[string]chain{}, signers: map[string][]*x509.Certificate{}}
	for _, p := range paths {
		c.path(p)
	}
	return c.pairs()
}

// collection is what was read so far.
type collection struct {
	now      time.Time
	files    int
	keys     map[string]crypto.PrivateKey   // by public key, DER
	chains   map[string]chain               // by leaf, DER; the longest
	signers  map[string][]*x509.Certificate // authorities', by subject, DER
	found    []Found                        // of acme.json: paired already
	problems []error
}

type chain struct {
	list   []*x509.Certificate
	source string
}

func (c *collection) problem(source string, err error) {
	c.problems = append(c.problems, fmt.Errorf("%s: %w", source, err))
}

func (c *collection) path(path string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		c.problems = append(c.problems, err)
	case info.IsDir():
		c.folder(path)
	default:
		c.file(path, true)
	}
}

func (c *collection) folder(root string) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			c.problems = append(c.problems, err)
			return nil
		}
		if c.files++; c.files > maxFiles {
			return fmt.Errorf("over %d files", maxFiles)
		}
		if !d.IsDir() {
			c.file(path, false)
		}
		return nil
	})
	if err != nil {
		c.problem(root, err)
	}
}

// file reads one file. Of a file somebody named it is a mistake to hold
// nothing; in a folder much else may lie.
func (c *collection) file(path string, named bool) {
	info, err := os.Stat(path) // through the links certbot's live folder is made of
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxJSON || !named && info.Size() > maxFile && filepath.Ext(path) != ".json" {
		if named {
			c.problem(path, cmp.Or(err, errors.New("no regular file of a usable size")))
		}
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		c.problems = append(c.problems, err)
		return
	}
	switch {
	case bytes.Contains(data, []byte("-----BEGIN ")) && !json(data):
		if c.pem(path, data) == 0 && named {
			c.problem(path, errors.New("neither a certificate nor a private key in it"))
		}
	case json(data) && (named || bytes.Contains(data, []byte("ertificates"))):
		c.acme(path, data, named)
	case named:
		c.acme(path, data, named) // the store's objects are base64 and gzip
	}
}

func json(data []byte) bool {
	data = bytes.TrimSpace(data)
	return len(data) > 0 && (data[0] == '{' || data[0] == '[')
}

func (c *collection) acme(path string, data []byte, named bool) {
	read, problems := traefik1.ReadACME(data, path)
	for _, one := range read.Certificates {
		leaf, err := leafOf(one.CertPEM)
		switch {
		case err != nil:
			c.problem(path, err)
		default:
			c.found = append(c.found, Found{Names: one.Names, NotAfter: leaf.NotAfter, Chain: one.CertPEM, Key: one.KeyPEM, Source: path})
		}
	}
	if named || len(read.Certificates) > 0 {
		for _, p := range problems {
			c.problems = append(c.problems, p)
		}
	}
}

func leafOf(chain []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(chain)
	if block == nil {
		return nil, errors.New("no certificate in PEM form")
	}
	return x509.ParseCertificate(block.Bytes)
}

// pem collects the blocks of a file and says how many were certificates or
// keys.
func (c *collection) pem(path string, data []byte) (blocks int) {
	var list []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type == "CERTIFICATE":
			blocks++
			one, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				c.problem(path, err)
				continue
			}
			list = append(list, one)
			c.signer(one)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			blocks++
			if err := c.key(block); err != nil {
				c.problem(path, err)
			}
		}
	}
	if len(list) == 0 || list[0].IsCA {
		return blocks
	}
	if have := c.chains[string(list[0].Raw)]; len(have.list) < len(list) {
		c.chains[string(list[0].Raw)] = chain{list, path}
	}
	return blocks
}

// Bounds on completing chains: more are a mistake, or meant to keep us busy.
const (
	mostSigners = 8 // of one name
	mostLinks   = 8
)

// signer keeps an authority's certificate; a root is in nobody's chain.
func (c *collection) signer(one *x509.Certificate) {
	name := string(one.RawSubject)
	if !one.IsCA || bytes.Equal(one.RawSubject, one.RawIssuer) || len(c.signers[name]) >= mostSigners ||
		slices.ContainsFunc(c.signers[name], one.Equal) {
		return
	}
	c.signers[name] = append(c.signers[name], one)
}

// complete adds what a chain lacks, as people have it in a file of its own:
// clients do not fetch it.
func (c *collection) complete(list []*x509.Certificate) []*x509.Certificate {
	list = slices.Clone(list)
	for len(list) < mostLinks {
		last := list[len(list)-1]
		i := slices.IndexFunc(c.signers[string(last.RawIssuer)], func(a *x509.Certificate) bool { return last.CheckSignatureFrom(a) == nil })
		if i < 0 || slices.ContainsFunc(list, c.signers[string(last.RawIssuer)][i].Equal) {
			break
		}
		list = append(list, c.signers[string(last.RawIssuer)][i])
	}
	return list
}

func (c *collection) key(block *pem.Block) error {
	var key crypto.PrivateKey
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return fmt.Errorf("a key of the kind %q cannot be read", block.Type)
	}
	if err != nil {
		return fmt.Errorf("read private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return fmt.Errorf("a key of the kind %T cannot sign", key)
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return err
	}
	c.keys[string(public)] = key
	return nil
}

// pairs joins chains and keys, and leaves out what a later certificate of the
// same names makes needless.
func (c *collection) pairs() ([]Found, []error) {
	found := c.found
	for _, ch := range c.chains {
		leaf := ch.list[0]
		names := slices.Clone(leaf.DNSNames)
		for _, ip := range leaf.IPAddresses {
			names = append(names, ip.String())
		}
		key, ok := c.keys[string(leaf.RawSubjectPublicKeyInfo)]
		switch {
		case !ok && !leaf.NotAfter.After(c.now):
			continue
		case !ok:
			c.problem(ch.source, fmt.Errorf("%v: no private key that was read fits it", names))
			continue
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			c.problem(ch.source, err)
			continue
		}
		f := Found{Names: names, NotAfter: leaf.NotAfter, Source: ch.source,
			Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
		list := c.complete(ch.list)
		if len(list) == 1 && !bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
			f.Lacks = leaf.Issuer.String()
		}
		for _, one := range list {
			f.Chain = append(f.Chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: one.Raw})...)
		}
		found = append(found, f)
	}
	found = slices.DeleteFunc(newest(found), func(f Found) bool {
		if f.NotAfter.After(c.now) {
			return false
		}
		c.problem(f.Source, fmt.Errorf("%v ended %s", f.Names, f.NotAfter.UTC().Format("2006-01-02")))
		return true
	})
	slices.SortFunc(c.problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return found, c.problems
}

func newest(found []Found) []Found {
	set := func(f Found) string {
		names := slices.Clone(f.Names)
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	slices.SortFunc(found, func(a, b Found) int {
		return cmp.Or(strings.Compare(set(a), set(b)), b.NotAfter.Compare(a.NotAfter), strings.Compare(a.Source, b.Source))
	})
	return slices.CompactFunc(found, func(a, b Found) bool { return set(a) == set(b) })
}

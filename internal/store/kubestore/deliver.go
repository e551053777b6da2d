package kubestore

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse/internal/kubeclient"
	"gatehouse/internal/store"
)

// noteDelivered marks a Secret that a Deliverer made: the names it was made for.
const noteDelivered = "gatehouse/delivered"

const (
	deliverAgain   = 30 * time.Second // what could not be delivered
	deliverRefused = time.Minute      // for want of a right
	deliverCheck   = 10 * time.Minute // whether what was delivered is still there
)

// Delivery is a certificate that shall also stand in a Secret that somebody
// named, as an Ingress does in spec.tls.
type Delivery struct {
	Namespace, Name string   // of the Secret
	Names           []string // in ASCII; the certificate is the one of just these
}

func (d Delivery) key() string { return d.Namespace + "/" + d.Name }

// DelivererOptions say from where to where.
type DelivererOptions struct {
	Client *kubeclient.Client
	Store  store.Store // whose certificates are delivered
	Pair   func(value []byte) (chain, key []byte, ok bool)
	// Namespaces are those in which delivered Secrets that no Ingress names any more
	// are removed after a day; empty: all.
	Namespaces []string
	Logger     *slog.Logger // nil: nothing is logged
}

// Deliverer copies certificates of the store into Secrets that others named. A
// Secret that is there and not of its making is never written; one of its making
// that no Ingress names any more is removed after a day. Every replica may run one:
// they write the same. Its methods may be called from any goroutine.
type Deliverer struct {
	o       DelivererOptions
	log     *slog.Logger
	secrets kubeclient.Objects[corev1.Secret, *corev1.Secret]
	changed chan struct{}

	mu       sync.Mutex
	wanted   []Delivery
	pairs    []pair
	known    bool               // pairs are what the store holds
	outcomes map[string]outcome // by key of the delivery
	sweepAt  time.Time

	sweepTrouble string // of the last sweep; used by Run alone
}

// pair is a certificate of the store.
type pair struct {
	chain, key []byte
	leaf       *x509.Certificate
}

// outcome is what came of a delivery.
type outcome struct {
	chain []byte // that is delivered
	err   error
	next  time.Time // when it is looked at again though nothing changed
}

// NewDeliverer makes a deliverer; Run does its work.
func NewDeliverer(o DelivererOptions) *Deliverer {
	return &Deliverer{
		o: o, log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)), secrets: kubeclient.Secrets(o.Client),
		changed: make(chan struct{}, 1), outcomes: map[string]outcome{},
		sweepAt: time.Now().Add(sweepEvery),
	}
}

// Want sets all deliveries there shall be.
func (d *Deliverer) Want(list []Delivery) {
	d.mu.Lock()
	d.sweepIfLess(list)
	d.wanted = slices.Clone(list)
	d.mu.Unlock()
	d.wake()
}

// Troubles are the deliveries that cannot be made, by namespace and name of the
// Secret, and why; they are tried again.
func (d *Deliverer) Troubles() map[string]error {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]error{}
	for _, w := range d.wanted {
		if err := d.outcomes[w.key()].err; err != nil {
			out[w.key()] = err
		}
	}
	return out
}

func (d *Deliverer) wake() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// Run delivers until ctx ends.
func (d *Deliverer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { d.follow(ctx) })
	for {
		timer := time.NewTimer(min(d.turn(ctx), d.swept(ctx)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-d.changed:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// follow keeps the pairs those of the store.
func (d *Deliverer) follow(ctx context.Context) {
	for entries, err := range d.o.Store.Watch(ctx, "certificates") {
		if err != nil {
			continue // what is known stays
		}
		var pairs []pair
		for _, e := range entries {
			chain, key, ok := d.o.Pair(e.Value)
			block, _ := pem.Decode(chain)
			if !ok || block == nil {
				continue
			}
			if leaf, err := x509.ParseCertificate(block.Bytes); err == nil {
				pairs = append(pairs, pair{chain, key, leaf})
			}
		}
		d.mu.Lock()
		d.pairs, d.known = pairs, true
		d.mu.Unlock()
		d.wake()
	}
}

// best is, of the certificates for just these names, the one that ends last. One
// that carries more is for others too, who keep its key to themselves.
func best(pairs []pair, names []string) (out pair, ok bool) {
	wanted := nameSet(names)
	for _, p := range pairs {
		if slices.Equal(wanted, carried(p.leaf)) && (!ok || p.leaf.NotAfter.After(out.leaf.NotAfter)) {
			out, ok = p, true
		}
	}
	return out, ok
}

func carried(leaf *x509.Certificate) []string {
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return nameSet(names)
}

// nameSet gives names as they are compared.
func nameSet(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, strings.ToLower(n))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// turn makes all deliveries that are due, and says when the next one is.
func (d *Deliverer) turn(ctx context.Context) time.Duration {
	d.mu.Lock()
	wanted, pairs, known, before := d.wanted, d.pairs, d.known, maps.Clone(d.outcomes)
	d.mu.Unlock()
	sleep := deliverCheck
	if !known {
		return sleep
	}
	outcomes := map[string]outcome{}
	for _, w := range wanted {
		p, ok := best(pairs, w.Names)
		last := before[w.key()]
		if !ok { // it is being obtained
			outcomes[w.key()] = last
			continue
		}
		if due := time.Until(last.next); due > 0 && bytes.Equal(last.chain, p.chain) {
			outcomes[w.key()], sleep = last, min(sleep, due)
			continue
		}
		err := d.deliver(ctx, w, p)
		if kubeclient.Conflicts(err) { // another replica did the same, mostly
			err = d.deliver(ctx, w, p)
		}
		now := outcome{chain: p.chain, err: err, next: time.Now().Add(deliverCheck)}
		if err != nil {
			again := deliverAgain
			if kubeclient.Refused(err) {
				again = deliverRefused
			}
			now.next = time.Now().Add(again)
			if ctx.Err() == nil && (last.err == nil || last.err.Error() != err.Error()) {
				d.log.Warn("certificate not delivered", "secret", w.key(), "names", w.Names, "error", err, "next", again)
			}
		}
		outcomes[w.key()], sleep = now, min(sleep, time.Until(now.next))
	}
	d.mu.Lock()
	d.outcomes = outcomes
	d.mu.Unlock()
	return sleep
}

// deliver makes the Secret hold the certificate, if it is ours to write.
func (d *Deliverer) deliver(ctx context.Context, w Delivery, p pair) error {
	secret, err := d.secrets.Get(ctx, w.Namespace, w.Name)
	write := d.secrets.Update
	switch {
	case kubeclient.Gone(err):
		secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: w.Name, Labels: map[string]string{labelManaged: managedBy}}, Type: corev1.SecretTypeTLS}
		write = d.secrets.Create
	case err != nil:
		return fmt.Errorf("deliver the certificate: %w", err)
	case secret.Labels[labelManaged] != managedBy || secret.Annotations[noteDelivered] == "":
		return fmt.Errorf("deliver the certificate to secret %s: %w", w.key(), errForeign)
	case secret.Annotations[noteUnwanted] == "" && bytes.Equal(secret.Data[corev1.TLSCertKey], p.chain) && bytes.Equal(secret.Data[corev1.TLSPrivateKeyKey], p.key):
		return nil
	}
	if secret.Annotations == nil {
		secret.Annotations = map[string]string{}
	}
	delete(secret.Annotations, noteUnwanted)
	secret.Annotations[noteDelivered] = strings.Join(w.Names, ",")
	secret.Data = map[string][]byte{corev1.TLSCertKey: p.chain, corev1.TLSPrivateKeyKey: p.key}
	if _, err := write(ctx, secret); err != nil {
		return fmt.Errorf("deliver the certificate: %w", err)
	}
	d.log.Info("certificate delivered", "secret", w.key(), "names", w.Names, "notAfter", p.leaf.NotAfter)
	return nil
}

package kubestore

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gatehouse/internal/kubeclient"
)

// noteUnwanted is when a delivered Secret was first seen that no Ingress names.
const noteUnwanted = "gatehouse/unwanted-since"

const (
	// sweepGrace is how long a delivered Secret outlives the last Ingress that
	// names it: tools that take an Ingress away and bring it again find it there,
	// and nothing is asked of the CA for that.
	sweepGrace = 24 * time.Hour
	sweepEvery = time.Hour
	// sweepSoon is how long after something is wanted no more it is looked for.
	sweepSoon = 10 * time.Second
)

// fate is what becomes of a delivered Secret.
type fate uint8

const (
	stays   fate = iota
	marked       // it is noted since when nobody names it
	cleared      // that is taken back
	removed
)

// fateOf decides about a Secret. Only what a Deliverer made, and marked as such,
// is ever anything but left alone.
func fateOf(s *corev1.Secret, named bool, now time.Time) fate {
	if s.Labels[labelManaged] != managedBy || s.Annotations[noteDelivered] == "" || s.Type != corev1.SecretTypeTLS {
		return stays
	}
	text, is := s.Annotations[noteUnwanted]
	since, err := time.Parse(time.RFC3339, text)
	switch {
	case named && is:
		return cleared
	case named:
		return stays
	case !is || err != nil:
		return marked
	case now.Sub(since) >= sweepGrace:
		return removed
	}
	return stays
}

// sweep looks at all delivered Secrets. Whether one is named is asked of the API
// server, of all Ingresses of the namespace, be they ours or not: what this replica
// has read may be no more than a part.
func (d *Deliverer) sweep(ctx context.Context) error {
	spaces := d.o.Namespaces
	if len(spaces) == 0 {
		spaces = []string{""}
	}
	d.mu.Lock()
	wanted := map[string]bool{}
	for _, w := range d.wanted {
		wanted[w.key()] = true
	}
	d.mu.Unlock()
	named := map[string]map[string]bool{} // by namespace
	for _, space := range spaces {
		list, err := d.secrets.List(ctx, kubeclient.Selection{Namespace: space, Labels: labelManaged + "=" + managedBy, Fields: "type=" + string(corev1.SecretTypeTLS)})
		if err != nil {
			return fmt.Errorf("look for delivered certificates: %w", err)
		}
		for _, s := range list {
			if s.Annotations[noteDelivered] == "" || wanted[s.Namespace+"/"+s.Name] {
				continue // a mark of what is wanted is taken back by delivering
			}
			if named[s.Namespace] == nil {
				if named[s.Namespace], err = d.namedIn(ctx, s.Namespace); err != nil {
					return err
				}
			}
			if err := d.settle(ctx, s, fateOf(s, named[s.Namespace][s.Name], time.Now())); err != nil && !kubeclient.Conflicts(err) && !kubeclient.Gone(err) {
				return err
			}
		}
	}
	return nil
}

// namedIn are the Secrets that Ingresses of a namespace name.
func (d *Deliverer) namedIn(ctx context.Context, namespace string) (map[string]bool, error) {
	list, err := kubeclient.Ingresses(d.o.Client).List(ctx, kubeclient.Selection{Namespace: namespace})
	if err != nil {
		return nil, fmt.Errorf("look for who names delivered certificates: %w", err)
	}
	named := map[string]bool{}
	for _, in := range list {
		for _, entry := range in.Spec.TLS {
			named[entry.SecretName] = true
		}
	}
	return named, nil
}

// settle does what was decided, to the Secret as it was seen or not at all.
func (d *Deliverer) settle(ctx context.Context, s *corev1.Secret, f fate) error {
	name := s.Namespace + "/" + s.Name
	switch f {
	case marked:
		s.Annotations[noteUnwanted] = time.Now().UTC().Format(time.RFC3339)
		d.log.Info("no Ingress names a delivered certificate", "secret", name, "next", "it is removed in "+sweepGrace.String())
	case cleared:
		delete(s.Annotations, noteUnwanted)
	case removed:
		if err := d.secrets.Delete(ctx, s.Namespace, s.Name, s.ResourceVersion); err != nil {
			return err
		}
		d.log.Info("delivered certificate removed: no Ingress names it", "secret", name)
		return nil
	default:
		return nil
	}
	_, err := d.secrets.Update(ctx, s)
	return err
}

// swept sweeps if that is due, and says when it is again. Without the rights
// delivered Secrets stay, which is said once.
func (d *Deliverer) swept(ctx context.Context) time.Duration {
	d.mu.Lock()
	due := time.Until(d.sweepAt)
	d.mu.Unlock()
	if due > 0 {
		return due
	}
	err := d.sweep(ctx)
	if ctx.Err() != nil {
		return sweepEvery
	}
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	if trouble != "" && trouble != d.sweepTrouble {
		level := slog.LevelWarn
		if kubeclient.Refused(err) {
			level = slog.LevelInfo // as it may be meant
		}
		d.log.Log(ctx, level, "delivered certificates that no Ingress names stay", "error", err, "next", sweepEvery)
	}
	d.sweepTrouble = trouble
	d.mu.Lock()
	d.sweepAt = time.Now().Add(sweepEvery)
	d.mu.Unlock()
	return sweepEvery
}

// sweepIfLess brings the next sweep forward if something is wanted no more. The
// caller holds the mutex.
func (d *Deliverer) sweepIfLess(list []Delivery) {
	still := make(map[string]bool, len(list))
	for _, w := range list {
		still[w.key()] = true
	}
	soon := time.Now().Add(sweepSoon)
	if soon.Before(d.sweepAt) && slices.ContainsFunc(d.wanted, func(was Delivery) bool { return !still[was.key()] }) {
		d.sweepAt = soon
	}
}

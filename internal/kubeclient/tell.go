package kubeclient

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// News is an Event: something that happened to an object and that people should
// see by "kubectl describe".
type News struct {
	About   corev1.ObjectReference // with APIVersion, Kind, Namespace, Name, UID and ResourceVersion
	Warning bool                   // else all is well
	Reason  string                 // one word: "ConfigurationRejected"
	Action  string                 // what was tried, one word: "Load"
	Note    string                 // a sentence; cut at 1 KiB
	Replica string                 // who says so
}

// Tell writes an Event. The same news of the same version of an object, also
// from other replicas, is one Event: that it is there already is no error.
func (c *Client) Tell(ctx context.Context, n News) error {
	note := strings.ToValidUTF8(n.Note, "?")
	for len(note) > 1024 {
		_, size := utf8.DecodeLastRuneInString(note)
		note = note[:len(note)-size]
	}
	kind := corev1.EventTypeNormal
	if n.Warning {
		kind = corev1.EventTypeWarning
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{string(n.About.UID), n.About.ResourceVersion, n.Reason, note}, "\x00")))
	namespace := n.About.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	_, err := Events(c).Create(ctx, &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: n.About.Name + "." + hex.EncodeToString(sum[:8])},
		EventTime:  metav1.NowMicro(), ReportingController: "gatehouse", ReportingInstance: n.Replica,
		Action: n.Action, Reason: n.Reason, Regarding: n.About, Note: note, Type: kind,
	})
	if Conflicts(err) {
		return nil
	}
	return err
}

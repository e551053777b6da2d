package kubeclient

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// Object is a pointer to one of the API's types.
type Object[T any] interface {
	*T
	metav1.Object
	runtime.Object
}

// Objects are the objects of one kind. Errors name the verb, the object and
// the server; what the server answered is inside them, for apierrors.IsNotFound,
// IsConflict, IsForbidden and their like.
type Objects[T any, P Object[T]] struct {
	client   *Client
	version  schema.GroupVersion
	resource string
	list     func() runtime.Object
}

// Selection is which objects of a kind are meant. The zero Selection is all of
// all namespaces.
type Selection struct {
	Namespace string
	Labels    string // label selector
	Fields    string // field selector; "metadata.name=x" is allowed by a right on x alone
}

// Get reads one object as the server has agreed on it.
func (o Objects[T, P]) Get(ctx context.Context, namespace, name string) (P, error) {
	return o.do(ctx, "get", namespace, name, o.rest().Get())
}

// Create makes an object; apierrors.IsAlreadyExists if there is one.
func (o Objects[T, P]) Create(ctx context.Context, object P) (P, error) {
	return o.do(ctx, "create", object.GetNamespace(), object.GetName(), o.rest().Post().Body(object))
}

// Update replaces an object if it is still at the resource version that object
// has; else apierrors.IsConflict.
func (o Objects[T, P]) Update(ctx context.Context, object P) (P, error) {
	return o.do(ctx, "update", object.GetNamespace(), object.GetName(), o.rest().Put().Body(object))
}

// Patch changes an object, or its subresource if one is named.
func (o Objects[T, P]) Patch(ctx context.Context, namespace, name string, kind types.PatchType, patch []byte, subresource ...string) (P, error) {
	r := o.rest().Patch(kind).Body(patch)
	if kind == types.ApplyPatchType {
		r.Param("fieldManager", "gatehouse").Param("force", "true")
	}
	return o.do(ctx, "patch", namespace, name, r, subresource...)
}

// Delete removes an object if it is at revision, a resource version; empty:
// whatever it is at.
func (o Objects[T, P]) Delete(ctx context.Context, namespace, name, revision string) error {
	options := &metav1.DeleteOptions{}
	if revision != "" {
		options.Preconditions = &metav1.Preconditions{ResourceVersion: &revision}
	}
	ctx, cancel := o.client.bound(ctx)
	defer cancel()
	r := o.rest().Delete().NamespaceIfScoped(namespace, namespace != "").Resource(o.resource).Name(name).Body(options)
	return o.failed(ctx, "delete", namespace, name, r.Do(ctx).Error())
}

// List reads the objects of a selection once, in the server's order.
func (o Objects[T, P]) List(ctx context.Context, s Selection) ([]P, error) {
	ctx, cancel := o.client.bound(ctx)
	defer cancel()
	list := o.list()
	err := o.read(s, metav1.ListOptions{}).Do(ctx).Into(list)
	if err != nil {
		return nil, o.failed(ctx, "list", s.Namespace, "", err)
	}
	return items[T, P](list)
}

func (o Objects[T, P]) rest() rest.Interface { return o.client.clients[o.version] }

func (o Objects[T, P]) do(ctx context.Context, verb, namespace, name string, r *rest.Request, subresource ...string) (P, error) {
	ctx, cancel := o.client.bound(ctx)
	defer cancel()
	r = r.NamespaceIfScoped(namespace, namespace != "").Resource(o.resource).SubResource(subresource...)
	if verb != "create" {
		r = r.Name(name)
	}
	into := P(new(T))
	if err := r.Do(ctx).Into(into); err != nil {
		return nil, o.failed(ctx, verb, namespace, name, err)
	}
	return into, nil
}

// read is a request for a list or a watch.
func (o Objects[T, P]) read(s Selection, options metav1.ListOptions) *rest.Request {
	options.LabelSelector, options.FieldSelector = s.Labels, s.Fields
	return o.rest().Get().NamespaceIfScoped(s.Namespace, s.Namespace != "").Resource(o.resource).
		VersionedParams(&options, metav1.ParameterCodec)
}

func (o Objects[T, P]) failed(ctx context.Context, verb, namespace, name string, err error) error {
	if err == nil {
		return nil
	}
	what := o.resource
	if where := strings.Trim(namespace+"/"+name, "/"); where != "" {
		what += " " + where
	}
	return fmt.Errorf("%s %s of kubernetes %s: %w", verb, what, o.client.Server(), explain(ctx, err))
}

// Gone says whether the server answered that there is no such object, or no
// such kind.
func Gone(err error) bool { return apierrors.IsNotFound(err) }

// Conflicts says whether an object was not at the version the caller had, or
// exists where it was to be created.
func Conflicts(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }

// Refused says whether we have not the right to do what we asked.
func Refused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }

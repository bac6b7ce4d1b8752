package main

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	api "k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/apis/discovery"
	_ "k8s.io/kubernetes/pkg/apis/discovery/install"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/discovery/endpointslice"
)

// strategy says what a type of Kubernetes has to be.
type strategy interface {
	rest.RESTCreateStrategy
	rest.RESTUpdateStrategy
	rest.RESTDeleteStrategy
}

// core is one type of Kubernetes.
type core struct {
	plural, singular schema.GroupResource
	newObject        func() runtime.Object
	newList          func() runtime.Object
	strategy         strategy
}

// cores are what a controller looks at beside custom resources. Services get no address: who creates
// one says it.
var cores = []core{{
	plural:    api.Resource("namespaces"),
	singular:  api.Resource("namespace"),
	newObject: func() runtime.Object { return &api.Namespace{} },
	newList:   func() runtime.Object { return &api.NamespaceList{} },
	strategy:  namespace.Strategy,
}, {
	plural:    api.Resource("configmaps"),
	singular:  api.Resource("configmap"),
	newObject: func() runtime.Object { return &api.ConfigMap{} },
	newList:   func() runtime.Object { return &api.ConfigMapList{} },
	strategy:  configmap.Strategy,
}, {
	plural:    api.Resource("services"),
	singular:  api.Resource("service"),
	newObject: func() runtime.Object { return &api.Service{} },
	newList:   func() runtime.Object { return &api.ServiceList{} },
	strategy:  service.Strategy,
}, {
	plural:    discovery.Resource("endpointslices"),
	singular:  discovery.Resource("endpointslice"),
	newObject: func() runtime.Object { return &discovery.EndpointSlice{} },
	newList:   func() runtime.Object { return &discovery.EndpointSliceList{} },
	strategy:  endpointslice.Strategy,
}}

// installCore serves the types of Kubernetes.
func installCore(server *genericapiserver.GenericAPIServer, keeper generic.RESTOptionsGetter) error {
	groups := map[string]map[string]rest.Storage{api.GroupName: {}, discovery.GroupName: {}}
	for _, core := range cores {
		store := &registry.Store{
			NewFunc:                   core.newObject,
			NewListFunc:               core.newList,
			DefaultQualifiedResource:  core.plural,
			SingularQualifiedResource: core.singular,
			CreateStrategy:            core.strategy,
			UpdateStrategy:            core.strategy,
			DeleteStrategy:            core.strategy,
			// The tables of kubectl are another fifth of a MiB for each type.
			TableConvertor: rest.NewDefaultTableConvertor(core.plural),
		}
		if err := store.CompleteWithOptions(&generic.StoreOptions{RESTOptions: keeper}); err != nil {
			return err
		}
		groups[core.plural.Group][core.plural.Resource] = store
	}
	info := func(group string) *genericapiserver.APIGroupInfo {
		info := genericapiserver.NewDefaultAPIGroupInfo(group, legacyscheme.Scheme, legacyscheme.ParameterCodec, legacyscheme.Codecs)
		info.VersionedResourcesStorageMap["v1"] = groups[group]
		return &info
	}
	if err := server.InstallLegacyAPIGroup(genericapiserver.DefaultLegacyAPIPrefix, info(api.GroupName)); err != nil {
		return err
	}
	return server.InstallAPIGroup(info(discovery.GroupName))
}

// The whole of Enviromon on Azure, in a resource group of its own: `azd down --purge` leaves nothing behind.
// docs/azure.md tells what each parameter is for; infra/main.parameters.json takes them from `azd env set`.
targetScope = 'subscription'

@description('The environment\'s name: it names the resource group, and everything in it by a hash.')
@minLength(1)
@maxLength(40)
param environmentName string

@description('The region; one where Flex Consumption and IoT Hub are both offered.')
param location string

@description('Who deploys, and uploads the dashboard: the object id of a user or service principal.')
param deployerId string

@description('The site, e.g. a town: the setting PartitionKey.')
param site string

@description('Who may read: those with the key, all, or those whom Entra ID signed in.')
@allowed(['key', 'open', 'entra'])
param readAccess string

@description('The key of readers, where readAccess is key.')
@secure()
param readKey string = ''

@description('The app registration whose tokens open the API, where readAccess is entra.')
param entraClientId string = ''

@description('The tier of IoT Hub. F1 is free, one a subscription, and routes no raw telemetry to storage.')
@allowed(['F1', 'B1', 'B2', 'B3', 'S1', 'S2', 'S3'])
param iotHubSku string
param iotHubUnits int

@allowed(['Free_F1', 'Standard_S1', 'Premium_P1'])
param signalRSku string
param signalRUnits int

@description('Memory of a worker in MB.')
@allowed([512, 2048, 4096])
param instanceMemory int

@description('The most workers at once, of all functions together: the bill\'s upper bound.')
@minValue(1)
@maxValue(1000)
param maxInstances int

@description('host.json\'s batching, overridden for cost: docs/azure.md tells what each frame costs.')
param maxEventBatchSize int
param minEventBatchSize int
param maxWaitTime string

@description('Where the solution\'s own figures and traces go, besides what the Functions host sends.')
@allowed(['none', 'opentelemetry'])
param instruments string

var suffix = toLower(uniqueString(subscription().id, environmentName, location))
var tags = { 'azd-env-name': environmentName }

resource group 'Microsoft.Resources/resourceGroups@2024-11-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identities 'modules/identities.bicep' = {
  name: 'identities'
  scope: group
  params: { location: location, tags: tags, suffix: suffix }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: { location: location, tags: tags, suffix: suffix, publisherId: identities.outputs.appPrincipalId }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    appPrincipalId: identities.outputs.appPrincipalId
    hubPrincipalId: identities.outputs.hubPrincipalId
  }
}

module website 'modules/website.bicep' = {
  name: 'website'
  scope: group
  params: { location: location, tags: tags, suffix: suffix, deployerId: deployerId }
}

module iotHub 'modules/iot_hub.bicep' = {
  name: 'iot-hub'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    sku: iotHubSku
    units: iotHubUnits
    identityId: identities.outputs.hubIdentityId
    blobEndpoint: storage.outputs.blobEndpoint
    rawContainer: storage.outputs.rawContainer
  }
}

module keyVault 'modules/key_vault.bicep' = {
  name: 'key-vault'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    readerId: identities.outputs.appPrincipalId
    iotHubName: iotHub.outputs.name
    readKey: readKey
  }
}

module signalR 'modules/signalr.bicep' = {
  name: 'signalr'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    sku: signalRSku
    units: signalRUnits
    ownerId: identities.outputs.appPrincipalId
    dashboardOrigin: website.outputs.origin
  }
}

module functionApp 'modules/function_app.bicep' = {
  name: 'function-app'
  scope: group
  params: {
    location: location
    tags: tags
    suffix: suffix
    identityId: identities.outputs.appIdentityId
    identityClientId: identities.outputs.appClientId
    blobEndpoint: storage.outputs.blobEndpoint
    queueEndpoint: storage.outputs.queueEndpoint
    tableEndpoint: storage.outputs.tableEndpoint
    packageContainer: storage.outputs.packageContainer
    insightsConnectionString: monitoring.outputs.connectionString
    eventsConnectionUri: keyVault.outputs.eventsConnectionUri
    readKeyUri: keyVault.outputs.readKeyUri
    eventHubName: iotHub.outputs.eventHubName
    signalREndpoint: signalR.outputs.endpoint
    dashboardOrigin: website.outputs.origin
    site: site
    readAccess: readAccess
    entraClientId: entraClientId
    instanceMemory: instanceMemory
    maxInstances: maxInstances
    maxEventBatchSize: maxEventBatchSize
    minEventBatchSize: minEventBatchSize
    maxWaitTime: maxWaitTime
    instruments: instruments
  }
}

// What azd, the hooks and scripts/verify-azure read, and names to look up. None of these is a secret.
output AZURE_RESOURCE_GROUP string = group.name
output AZURE_TENANT_ID string = tenant().tenantId
output API_URL string = functionApp.outputs.url
output FUNCTION_APP string = functionApp.outputs.name
output DASHBOARD_ACCOUNT string = website.outputs.account
output DASHBOARD_URL string = website.outputs.origin
output IOT_HUB string = iotHub.outputs.name
output KEY_VAULT string = keyVault.outputs.name
output SIGNALR_URL string = signalR.outputs.endpoint

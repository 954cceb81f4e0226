// The account of the dashboard: a static website and nothing else. The website itself is enabled by the hook that
// uploads the page (infra/hooks/publish_dashboard.py).
param location string
param tags object
param suffix string
param deployerId string

// Storage Blob Data Contributor: who deploys uploads the page.
var storageBlobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: 'web${suffix}'
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: 'Standard_LRS' }
  properties: {
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
  }
}

resource deployerMayUpload 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(account.id, deployerId, storageBlobDataContributor)
  scope: account
  properties: {
    principalId: deployerId
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', storageBlobDataContributor)
  }
}

output account string = account.name
// An origin has no slash at its end; the endpoint has one.
output origin string = take(account.properties.primaryEndpoints.web, length(account.properties.primaryEndpoints.web) - 1)

// The function app on Flex Consumption. Its settings are what function_app.py, host.json and docs/settings.md ask for:
// tests/infra compares them.
param location string
param tags object
param suffix string
param identityId string
param identityClientId string
param blobEndpoint string
param queueEndpoint string
param tableEndpoint string
param packageContainer string
param insightsConnectionString string
param eventsConnectionUri string
param readKeyUri string
param eventHubName string
param signalREndpoint string
param dashboardOrigin string
param site string
param readAccess string
param entraClientId string
param instanceMemory int
param maxInstances int
param maxEventBatchSize int
param minEventBatchSize int
param maxWaitTime string
param instruments string

// With Entra ID the platform turns strangers away before the app is asked, which then lets everybody read.
var isEntra = readAccess == 'entra'

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'plan-${suffix}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: 'func-${suffix}'
  location: location
  tags: union(tags, { 'azd-service-name': 'api' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identityId
    functionAppConfig: {
      runtime: { name: 'python', version: '3.13' }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemory
        maximumInstanceCount: maxInstances
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${blobEndpoint}${packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      cors: {
        allowedOrigins: [dashboardOrigin]
        supportCredentials: false
      }
    }
  }
}

// Deployment signs in with Entra ID; user names and passwords are for nobody.
resource noFtpPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'ftp'
  properties: { allow: false }
}

resource noDeploymentPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'scm'
  properties: { allow: false }
}

resource settings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: app
  name: 'appsettings'
  properties: {
    AzureWebJobsStorage__credential: 'managedidentity'
    AzureWebJobsStorage__clientId: identityClientId
    AzureWebJobsStorage__blobServiceUri: blobEndpoint
    AzureWebJobsStorage__queueServiceUri: queueEndpoint
    AzureWebJobsStorage__tableServiceUri: tableEndpoint
    APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnectionString
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
    IoTHubConnectionString: '@Microsoft.KeyVault(SecretUri=${eventsConnectionUri})'
    IoTHubEventHubName: eventHubName
    AzureSignalRConnectionString__serviceUri: signalREndpoint
    AzureSignalRConnectionString__credential: 'managedidentity'
    AzureSignalRConnectionString__clientId: identityClientId
    AzureFunctionsJobHost__extensions__eventHubs__maxEventBatchSize: string(maxEventBatchSize)
    AzureFunctionsJobHost__extensions__eventHubs__minEventBatchSize: string(minEventBatchSize)
    AzureFunctionsJobHost__extensions__eventHubs__maxWaitTime: maxWaitTime
    INSTRUMENTS: instruments
    PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY: string(instruments == 'opentelemetry')
    INSTANCE_MEMORY_MB: string(instanceMemory)
    STORE_URL: 'azure-tables:AzureWebJobsStorage'
    PartitionKey: site
    READ_ACCESS: readAccess == 'key' ? 'key' : 'open'
    READ_KEY: readAccess != 'key' ? '' : '@Microsoft.KeyVault(SecretUri=${readKeyUri})'
  }
}

resource signIn 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: app
  name: 'authsettingsV2'
  properties: {
    platform: { enabled: isEntra }
    globalValidation: {
      requireAuthentication: isEntra
      unauthenticatedClientAction: 'Return401'
    }
    identityProviders: isEntra ? {
      azureActiveDirectory: {
        enabled: true
        registration: {
          clientId: entraClientId
          openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
        }
        validation: { allowedAudiences: [entraClientId, 'api://${entraClientId}'] }
      }
    } : {}
    login: { tokenStore: { enabled: false } }
    httpSettings: { requireHttps: true }
  }
}

output name string = app.name
output url string = 'https://${app.properties.defaultHostName}'
